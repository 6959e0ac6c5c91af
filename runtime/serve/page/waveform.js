// The waveform with its time scale, the marks of the onsets, and the selected range.

import Regions from "./vendor/regions.esm.js";
import Timeline from "./vendor/timeline.esm.js";
import WaveSurfer from "./vendor/wavesurfer.esm.js";
import { change, state } from "./store.js";

const SHORTEST = 0.02; // seconds of a range
const MARKS = 1000; // a mark is an element: more would make the page slow
const RANGE = "range";
const SCALE = { secondaryLabelSpacing: 1, secondaryLabelOpacity: 1, style: { color: "var(--quiet)", fontSize: "11px" } };

export class Waveform {
  constructor(container, video) {
    this.video = video;
    this.regions = Regions.create();
    this.surfer = WaveSurfer.create({
      container,
      media: video,
      height: 90,
      normalize: true,
      cspNonce: document.querySelector("meta[name=nonce]").content,
      plugins: [this.regions, Timeline.create({ height: 18, ...SCALE })],
      ...colours(),
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.surfer.setOptions(colours()));
    this.regions.enableDragSelection({ id: RANGE, color: "var(--range)" });
    this.regions.on("region-created", (region) => region.id === RANGE && this.take(region));
    this.regions.on("region-updated", (region) => region.id === RANGE && this.take(region));
  }

  /** A range was drawn: it replaces the one before. */
  take(region) {
    for (const other of this.ranges()) if (other !== region) other.remove();
    if (region.end - region.start < SHORTEST) return;
    const range = { begin: round(region.start), end: round(region.end) };
    if (range.begin !== state.range?.begin || range.end !== state.range?.end) change({ range });
  }

  ranges() {
    return this.regions.getRegions().filter((region) => region.id === RANGE);
  }

  /** Show a range that was set elsewhere. */
  showRange(range) {
    const [region] = this.ranges();
    if (!range || range.end <= range.begin) region?.remove();
    else if (!region) this.regions.addRegion({ id: RANGE, start: range.begin, end: range.end, color: "var(--range)" });
    else if (round(region.start) !== range.begin || round(region.end) !== range.end)
      region.setOptions({ start: range.begin, end: range.end });
  }

  /** Draw a sound that begins at a second of the video; null draws silence. */
  async draw(sound, begin) {
    const seconds = this.video.duration;
    const peaks = sound ? spread(sound, begin, seconds) : new Float32Array(100);
    try {
      await this.surfer.load(this.video.src, [peaks], seconds);
    } catch (error) {
      if (error.name === "AbortError") return; // meanwhile another sound is drawn
      throw error;
    }
    this.regions.clearRegions();
    this.showRange(state.range);
    for (const [n, at] of (sound?.onsets ?? []).slice(0, MARKS).entries())
      this.regions.addRegion({ id: `onset ${n}`, start: begin + at, color: "var(--onset)", drag: false, resize: false });
  }
}

const round = (seconds) => Math.round(100 * seconds) / 100;

/** The peaks of a sound in those of the whole video. */
function spread(sound, begin, seconds) {
  const rate = sound.peaks.length / sound.seconds;
  const found = new Float32Array(Math.max(2, Math.round(seconds * rate)));
  found.set(sound.peaks.subarray(0, Math.max(0, found.length - Math.round(begin * rate))), Math.round(begin * rate));
  return found;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [waveColor, progressColor, cursorColor] = ["--wave", "--played", "--text"].map((name) => style.getPropertyValue(name));
  return { waveColor, progressColor, cursorColor };
}
