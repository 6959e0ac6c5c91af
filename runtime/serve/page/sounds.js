// Sounds as decoded samples, with what is drawn of them.

import { readBytes } from "./api.js";
import { onsets, peaks } from "./onsets.js";

const PEAKS_PER_SECOND = 200;
const KEPT_SECONDS = 1200; // of decoded sound: 10 minutes of one channel are 100 MB
const ONSET_RATE = 16000;
const known = new Map(); // address -> promise of { buffer, peaks, onsets, seconds }

export const context = new AudioContext();

/** Load and decode the sound at an address. The oldest are forgotten when there are too many. */
export function loadSound(url) {
  const found = known.get(url) ?? decode(url);
  known.delete(url); // and set it again, as the newest
  known.set(url, found);
  found.then(forget, () => known.delete(url));
  return found;
}

async function decode(url) {
  const buffer = await context.decodeAudioData(await readBytes(url));
  const samples = buffer.getChannelData(0);
  const drawn = peaks(samples, Math.ceil(buffer.duration * PEAKS_PER_SECOND));
  return { buffer, peaks: drawn, onsets: onsets(await resampled(buffer)), seconds: buffer.duration };
}

async function resampled(buffer) {
  const offline = new OfflineAudioContext(1, Math.max(1, Math.ceil(buffer.duration * ONSET_RATE)), ONSET_RATE);
  const source = new AudioBufferSourceNode(offline, { buffer });
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
}

async function forget() {
  let seconds = 0;
  for (const [url, sound] of [...known].reverse()) {
    seconds += (await sound.catch(() => null))?.seconds ?? 0;
    if (seconds > KEPT_SECONDS && url !== [...known.keys()].at(-1)) known.delete(url);
  }
}
