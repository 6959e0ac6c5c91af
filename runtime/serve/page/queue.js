// The list of jobs with their progress, and the files that they made.

import * as api from "./api.js";
import { $, make, reconcile } from "./dom.js";
import { act } from "./jobs.js";
import { levels } from "./stage.js";
import { describe, isOpen, jobsOfFile, onChange, state } from "./store.js";

const PHASES = {
  queued: "waits", starting: "starts", video: "reads the video", sample: "makes the sound", select: "compares",
  codec: "decodes the sound",
};

// ---------------------------------------------------------------- the queue
function createJob() {
  const bar = make("progress", { max: 1 });
  return make("li", {}, make("span", {}, make("b"), make("small")), make("button", { type: "button" }), bar);
}

function updateJob(element, { job }) {
  if (element.job === job) return; // nothing is new
  element.job = job;
  const open = isOpen(job), title = describe(job);
  element.dataset.status = job.status;
  element.querySelector("b").textContent = title;
  const text = element.querySelector("small");
  text.textContent = `${job.label}: ${stateOf(job)}`;
  text.className = job.status === "failed" ? "failed" : "";
  const bar = element.querySelector("progress");
  bar.hidden = !open;
  bar.value = job.progress;
  bar.setAttribute("aria-label", `Progress of ${title}`);
  const button = element.querySelector("button");
  button.textContent = open ? "Cancel" : "Delete";
  button.setAttribute("aria-label", `${button.textContent}: ${title}, ${job.label}`);
  button.onclick = () => (open ? act(() => api.cancelJob(job.id)) : remove(job));
}

function stateOf(job) {
  if (job.status === "queued") return job.position ? `waits for ${job.position} more` : "is next";
  if (job.status === "running") return `${PHASES[job.phase] ?? job.phase}, ${Math.round(100 * job.progress)} %`;
  if (job.status === "failed") return `failed: ${job.error?.message}`;
  return [job.status === "succeeded" ? "done" : job.status, ...job.warnings].join("; ");
}

/** The button goes away with its job, so the focus goes to the title. */
async function remove(job) {
  $("queue-title").focus();
  await act(() => api.deleteJob(job.id));
}

// ---------------------------------------------------------------- files
function updateFiles(element, { job, folder }) {
  const key = JSON.stringify([job.id, folder]);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  const links = job.results.filter(({ kind }) => kind !== "report").map((result) => link(job, result, folder));
  const facts = make("small");
  element.replaceChildren(make("b", {}, describe(job)), facts, ...links);
  if (job.take) api.readReport(job.id).then((report) => (facts.textContent = levels(report.takes[0])), () => {});
}

function link(job, result, folder) {
  const address = result.kind === "timeline" ? api.timelineUrl : api.resultUrl;
  const href = address(job.id, result.name, folder);
  const what = result.kind === "take" ? "take file for maskvat --from" : result.kind;
  const size = result.bytes < 1e6 ? `${Math.ceil(result.bytes / 1e3)} kB` : `${(result.bytes / 1e6).toFixed(1)} MB`;
  return make("a", { href, download: result.download }, `${result.download} (${what}, ${size})`);
}

function show() {
  const entries = state.jobs.map((job) => ({ key: job.id, job }));
  reconcile($("queue"), entries, createJob, updateJob);
  const folder = $("folder").value.trim();
  const done = jobsOfFile().filter((job) => job.status === "succeeded").reverse();
  reconcile($("files"), done.map((job) => ({ key: job.id, job, folder })), () => make("li"), updateFiles);
}

export function prepareQueue() {
  $("folder").onchange = show;
  onChange((changed) => {
    if (changed.has("jobs") || changed.has("file")) show();
  });
}
