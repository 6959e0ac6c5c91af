// The video with its controls, and what is drawn under it.

import * as api from "./api.js";
import { $, attempt, make, reconcile, say } from "./dom.js";
import { Player } from "./player.js";
import { loadSound } from "./sounds.js";
import { change, heardTake, listenTo, onChange, state, takes } from "./store.js";
import { Waveform } from "./waveform.js";

const OWN_SOUND_MB = 200; // a larger video is not loaded to draw its own sound; it is heard all the same
const video = $("video");
const player = new Player(video);
const waveform = new Waveform($("wave"), video);
const reports = new Map(); // job -> promise of its report

/** What a take sounds like, where it begins, and how loud it is. */
async function load(take) {
  const { id } = take.job;
  if (!reports.has(id)) reports.set(id, api.readReport(id));
  const report = await reports.get(id).catch((error) => {
    reports.delete(id); // another try may succeed
    throw error;
  });
  const sound = await loadSound(api.resultUrl(id, take.sound.name));
  return { sound, begin: report.range?.begin ?? 0, facts: report.takes[take.number - 1] };
}

// ---------------------------------------------------------------- playing
export const togglePlay = () => attempt(() => player.toggle());

export function seek(seconds) {
  video.currentTime = Math.min(Math.max(0, seconds), video.duration || 0);
}

export const now = () => video.currentTime;

function showTime() {
  const length = Number.isFinite(video.duration) ? video.duration : 0;
  $("time").textContent = `${video.currentTime.toFixed(2)} / ${length.toFixed(2)} s`;
  $("seek").max = length;
  $("seek").value = video.currentTime;
  $("seek").setAttribute("aria-valuetext", `${video.currentTime.toFixed(1)} seconds`);
}

function showLevel() {
  const level = video.paused ? -60 : player.level();
  $("level").value = level;
  $("level-text").textContent = level > -60 ? `${level.toFixed(0)} dB` : "silent";
  if (!video.paused) requestAnimationFrame(showLevel);
}

function prepareControls() {
  $("play").onclick = togglePlay;
  $("seek").oninput = () => seek($("seek").valueAsNumber);
  $("volume").oninput = () => (player.master.gain.value = $("volume").valueAsNumber);
  for (const name of ["timeupdate", "seeking", "loadedmetadata", "emptied"]) video.addEventListener(name, showTime);
  for (const name of ["play", "pause"])
    video.addEventListener(name, () => {
      $("play").textContent = video.paused ? "Play" : "Pause";
      showLevel();
    });
  video.addEventListener("error", () => {
    if (video.getAttribute("src")) say("This browser cannot show the video. Sounds can be made and downloaded.");
  });
}

// ---------------------------------------------------------------- what is heard
let shown = ""; // what is drawn now

async function showHeard() {
  const take = heardTake();
  const wanted = `${state.file} ${take?.key ?? "original"}`;
  if (wanted === shown || !Number.isFinite(video.duration)) return;
  shown = wanted;
  const loaded = take ? await attempt(() => load(take)) : await ownSound();
  if (wanted !== shown || !loaded) return; // meanwhile something else was chosen, or it cannot be loaded
  player.hear(take ? { buffer: loaded.sound.buffer, begin: loaded.begin } : null);
  await waveform.draw(loaded.sound, loaded.begin);
  if (wanted !== shown) return;
  const name = take ? `Take ${take.title}` : "The original sound";
  $("wave-text").textContent = loaded.sound ? `${name}: ${loaded.sound.onsets.length} onsets` : loaded.why;
}

/** The video's own sound; null, and why, if it cannot be drawn. */
async function ownSound() {
  const file = state.files.find(({ id }) => id === state.file);
  if (!file || file.bytes > OWN_SOUND_MB * 1e6)
    return { sound: null, begin: 0, why: `The original sound is heard, but not drawn: the file has over ${OWN_SOUND_MB} MB.` };
  const sound = await loadSound(api.fileUrl(file.id)).catch(() => null);
  return { sound, begin: 0, why: "The video has no sound that this browser can read." };
}

// ---------------------------------------------------------------- the list of takes
function createTake(item) {
  const radio = make("input", { type: "radio", name: "take", value: item.key });
  radio.onchange = () => listenTo(item.key);
  const canvas = make("canvas", { width: 280, height: 52, "aria-hidden": "true" });
  return make("label", { className: "take" }, radio, make("b"), canvas, make("small"));
}

async function updateTake(element, item) {
  element.querySelector("input").checked = item.key === state.listening;
  element.querySelector("b").textContent = item.name;
  if (element.dataset.drawn || !item.take) return;
  element.dataset.drawn = "yes";
  const loaded = await attempt(() => load(item.take));
  if (!loaded) return;
  drawPeaks(element.querySelector("canvas"), loaded.sound.peaks);
  element.querySelector("small").textContent = [wordsOf(item.take.job), levels(loaded.facts)].filter(Boolean).join(" · ");
}

export function levels({ loudness, score }) {
  const parts = [];
  if (typeof loudness?.integrated === "number") parts.push(`${loudness.integrated.toFixed(1)} LUFS`);
  if (typeof loudness?.true_peak === "number") parts.push(`peak ${loudness.true_peak.toFixed(1)} dB`);
  if (typeof score === "number") parts.push(`score ${score.toFixed(2)}`);
  return parts.join(", ");
}

const wordsOf = ({ options }) =>
  [options.redo && `redo ${options.redo}`, options.prompt, options.avoid && `not ${options.avoid}`].filter(Boolean).join(", ");

function drawPeaks(canvas, values) {
  const draw = canvas.getContext("2d"), { width, height } = canvas;
  const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 1e-6);
  draw.fillStyle = getComputedStyle(canvas).getPropertyValue("--wave");
  for (let x = 0; x < width; x++) {
    const part = values.subarray(Math.floor((x * values.length) / width), Math.ceil(((x + 1) * values.length) / width));
    const size = (part.reduce((top, value) => Math.max(top, Math.abs(value)), 0) / most) * height;
    draw.fillRect(x, (height - size) / 2, 1, Math.max(1, size));
  }
}

function showTakes() {
  const list = takes().map((take) => ({ key: take.key, take, name: ` Take ${take.title}${take.digit ? ` (${take.digit})` : ""}` }));
  reconcile($("take-list"), [{ key: "original", name: " Original (0)" }, ...list], createTake, updateTake);
}

// ---------------------------------------------------------------- the video
function showVideo() {
  shown = "";
  if (state.file) video.src = api.fileUrl(state.file);
  else video.removeAttribute("src");
  video.load();
  $("wave-text").textContent = "";
}

let known = null; // jobs that were finished when we last looked; null before the first look at a video

/** When a job has made takes, hear the first of them; when the heard take is gone, hear the original sound. */
function followJobs() {
  const fresh = takes().find((take) => known && !known.has(take.job.id));
  known = new Set(takes().map((take) => take.job.id));
  if (fresh) listenTo(fresh.key);
  else if (state.listening !== "original" && !heardTake()) change({ listening: "original", before: "original" });
}

export function prepareStage() {
  prepareControls();
  video.addEventListener("loadedmetadata", () => attempt(showHeard));
  onChange((changed) => {
    if (changed.has("file")) {
      known = null;
      showVideo();
    }
    if (changed.has("file") || changed.has("jobs")) followJobs();
    if (["file", "jobs", "listening"].some((name) => changed.has(name))) {
      showTakes();
      attempt(showHeard);
    }
    if (changed.has("range")) waveform.showRange(state.range);
  });
}
