// Plays a take in time with the picture. The video element is the clock. Its own sound and the takes pass gains of
// their own, so that switching from one to the other does not click.

import { say } from "./dom.js";
import { context } from "./sounds.js";

const RAMP = 0.01; // seconds of a switch
const DRIFT = 0.03; // seconds that picture and sound may be apart
const CHECK = 500; // ms between two looks at that
const PATIENCE = 1000; // ms until the sound output must have begun
const QUIETEST = -60; // dB, of the meter

export class Player {
  constructor(video) {
    this.video = video;
    this.master = new GainNode(context);
    this.own = new GainNode(context);
    this.analyser = new AnalyserNode(context, { fftSize: 2048 });
    new MediaElementAudioSourceNode(context, { mediaElement: video }).connect(this.own).connect(this.master);
    this.master.connect(this.analyser).connect(context.destination);
    this.take = null; // { buffer, begin }, begin: seconds of the video
    this.playing = null; // { source, gain, shift }
    for (const name of ["playing", "seeked"]) video.addEventListener(name, () => this.start());
    for (const name of ["pause", "waiting", "seeking", "ended", "emptied"]) video.addEventListener(name, () => this.stop());
    setInterval(() => this.keepTime(), CHECK);
  }

  /** Play or pause. A browser lets sound begin in answer to a key or a click only. */
  async toggle() {
    if (!this.video.paused) return this.video.pause();
    const late = new Promise((done) => setTimeout(done, PATIENCE));
    await Promise.race([context.resume(), late]); // Firefox never resumes on a machine without a sound output
    if (context.state !== "running") say("This browser has no sound output: the picture plays alone.");
    await this.video.play();
  }

  /** Hear a take that begins at a second of the video; null for the video's own sound. */
  hear(take) {
    this.take = take;
    this.own.gain.setTargetAtTime(take ? 0 : 1, context.currentTime, RAMP / 3);
    this.stop();
    this.start();
  }

  /** What is heard now lags by this, so the sound is started ahead. */
  get latency() {
    return context.outputLatency || context.baseLatency || 0;
  }

  start() {
    const { video, take } = this;
    if (!take || video.paused || video.seeking || this.playing) return;
    const source = new AudioBufferSourceNode(context, { buffer: take.buffer });
    const gain = new GainNode(context, { gain: 0 });
    source.connect(gain).connect(this.master);
    const now = context.currentTime, at = video.currentTime + this.latency - take.begin;
    if (at >= 0) source.start(now, at);
    else source.start(now - at, 0);
    gain.gain.setTargetAtTime(1, now, RAMP / 3);
    this.playing = { source, gain, shift: video.currentTime - now };
  }

  stop() {
    if (!this.playing) return;
    const { source, gain } = this.playing;
    gain.gain.setTargetAtTime(0, context.currentTime, RAMP / 3);
    source.stop(context.currentTime + 3 * RAMP);
    this.playing = null;
  }

  /** Start anew if picture and sound have drifted apart. */
  keepTime() {
    if (!this.playing || this.video.paused) return;
    if (Math.abs(this.video.currentTime - context.currentTime - this.playing.shift) > DRIFT) {
      this.stop();
      this.start();
    }
  }

  /** The peak of what is heard now, dB below full scale; -60 if it is quieter. */
  level() {
    const samples = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(samples);
    const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return Math.max(QUIETEST, 20 * Math.log10(peak || 1e-9));
  }
}
