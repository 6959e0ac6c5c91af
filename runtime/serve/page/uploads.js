// Bring a video to the server, choose among those that are there, delete one.

import * as api from "./api.js";
import { $, attempt, dismiss, say } from "./dom.js";
import { act } from "./jobs.js";
import { change, isOpen, onChange, state } from "./store.js";

let running = null; // the upload

async function uploadAll(files) {
  if (running) return say("Wait until the upload is done, or cancel it.");
  dismiss();
  for (const file of [...files]) await upload(file);
}

async function upload(file) {
  say(`Uploading ${file.name}`);
  $("upload").hidden = false;
  running = api.upload(file, (share) => ($("upload-progress").value = share));
  const stored = await act(() => running.done);
  running = null;
  $("upload").hidden = true;
  $("file").value = "";
  if (!stored) return say("The upload did not finish.");
  say(`${stored.name} is ready: make sounds for it.`);
  show(stored.id);
}

/** Show another video. */
function show(id) {
  if (id !== state.file) change({ file: id, range: null, listening: "original", before: "original" });
}

/** Delete the video that is shown, with its jobs. */
async function forget() {
  const file = state.files.find(({ id }) => id === state.file);
  if (!file || !confirm(`Delete ${file.name} and all its sounds from the server?`)) return;
  await act(async () => {
    const jobs = state.jobs.filter((job) => job.source.file_id === file.id);
    for (const job of jobs.filter(isOpen)) await api.cancelJob(job.id);
    for (const job of jobs) await api.deleteJob(job.id);
    await api.deleteFile(file.id);
    say(`${file.name} and its sounds are deleted.`);
  });
}

function showList() {
  const options = state.files.map(({ id, name }) => new Option(name, id, false, id === state.file));
  $("clip").replaceChildren(...(options.length ? options : [new Option("none yet", "")]));
  $("forget").disabled = !state.file;
}

export function prepareUploads() {
  $("file").onchange = () => uploadAll($("file").files);
  $("upload-cancel").onclick = () => running?.abort();
  $("clip").onchange = () => show($("clip").value);
  $("forget").onclick = () => attempt(forget);
  const over = (on) => (event) => {
    event.preventDefault(); // else the browser would open the file
    $("drop").classList.toggle("over", on);
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", over(false));
  document.addEventListener("drop", (event) => {
    over(false)(event);
    uploadAll(event.dataTransfer.files);
  });
  addEventListener("beforeunload", (event) => running && event.preventDefault());
  let listed = "";
  onChange((changed) => {
    const wanted = JSON.stringify([state.file, state.files.map(({ id }) => id)]);
    if ((changed.has("files") || changed.has("file")) && wanted !== listed) showList();
    listed = wanted;
  });
}
