// The forms that ask for jobs. A control's name is the name of an option: `options.steps`, `deliver.video`.

import * as api from "./api.js";
import { $, complain, dismiss, say } from "./dom.js";
import { act } from "./jobs.js";
import { now } from "./stage.js";
import { change, heardTake, onChange, state } from "./store.js";

/** What the controls of a form say, as fields of a job. Empty ones are left out. */
function read(form) {
  const job = { options: {}, deliver: {} };
  for (const control of form.querySelectorAll("[name*='.']")) {
    const [group, name] = control.name.split(".");
    const value = valueOf(control);
    if (value !== null) job[group][name] = value;
  }
  return job;
}

const NUMBERS = new Set(["options.rate", "options.channels"]); // numbers that are chosen from a list

function valueOf(control) {
  if (control.type === "checkbox") return control.checked || null;
  if (control.value.trim() === "") return null;
  return control.type === "number" || NUMBERS.has(control.name) ? Number(control.value) : control.value.trim();
}

async function ask(job, text) {
  dismiss();
  say(text);
  await act(async () => {
    const made = await api.createJob(job); // known at once, so that its end is told however soon it comes
    change({ jobs: [made, ...state.jobs.filter(({ id }) => id !== made.id)] });
  });
}

/** The take that a form changes; undefined, with a message, if none is heard. */
function neededTake() {
  const take = heardTake();
  if (!take) complain(new Error("Choose a take first: under the waveform, or with the keys 1 to 9."));
  return take && { job_id: take.job.id, number: take.number };
}

const hasRange = () => state.range !== null && state.range.end > state.range.begin;
const rangeText = (shift = 0) => `${(state.range.begin - shift).toFixed(3)}-${(state.range.end - shift).toFixed(3)}`;

function makeSounds(form) {
  if (!state.file) return complain(new Error("Drop a video first."));
  const job = read(form);
  job.options.candidates = job.options.takes;
  if ($("make-range").checked) {
    if (!hasRange()) return complain(new Error("Drag over the waveform to select a range first."));
    job.options.range = rangeText();
  }
  return ask({ file_id: state.file, ...job }, "Sounds are in the queue.");
}

async function redo(form) {
  const take = neededTake();
  if (!take || !hasRange()) return;
  const job = read(form);
  job.options.candidates = job.options.takes;
  const report = await api.readReport(take.job_id); // a take of a range counts from its own beginning
  job.options.redo = rangeText(report.range?.begin ?? 0);
  await ask({ take, ...job }, "The range is in the queue.");
}

function deliver(form) {
  const take = neededTake();
  if (take) return ask({ take, ...read(form) }, "The files are in the queue.");
}

// ---------------------------------------------------------------- the range
/** Set one end of the range to the position; the other end follows if it would come first. */
export function setEnd(name) {
  const at = Math.round(100 * now()) / 100;
  const other = state.range?.[name === "begin" ? "end" : "begin"] ?? at;
  const range = name === "begin" ? { begin: at, end: Math.max(at, other) } : { begin: Math.min(at, other), end: at };
  change({ range });
}

function readRange() {
  const [begin, end] = [$("range-in").valueAsNumber, $("range-out").valueAsNumber];
  if (begin >= 0 && end >= 0) change({ range: { begin, end } });
}

function showRange() {
  const { range } = state;
  $("range-in").value = range ? range.begin : "";
  $("range-out").value = range ? range.end : "";
  $("range-out").setCustomValidity(range && !hasRange() ? "The range is empty: Out must be after In." : "");
}

// ---------------------------------------------------------------- words
/** Offer the words of the bundle; without any, say so. */
export function showWords({ words, any_text: anyText }) {
  $("words").replaceChildren(...words.map((word) => new Option(word)));
  const none = words.length === 0 && !anyText;
  for (const input of document.querySelectorAll(".words")) input.disabled = none;
  for (const text of document.querySelectorAll(".no-words")) text.hidden = !none;
}

export function prepareForms() {
  for (const [id, task] of Object.entries({ make: makeSounds, redo, deliver })) {
    const form = $(id);
    form.onsubmit = async (event) => {
      event.preventDefault();
      const button = form.querySelector("button[type=submit]");
      button.setAttribute("aria-busy", "true");
      try {
        await task(form);
      } catch (error) {
        complain(error);
      } finally {
        button.removeAttribute("aria-busy");
      }
    };
  }
  $("set-in").onclick = () => setEnd("begin");
  $("set-out").onclick = () => setEnd("end");
  for (const id of ["range-in", "range-out"]) $(id).onchange = readRange;
  onChange((changed) => {
    if (!changed.has("range")) return;
    showRange();
    if (state.range && heardTake()) $("redo-task").open = true;
  });
}
