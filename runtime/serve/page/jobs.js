// The jobs of this client: kept up to date by events of the next one to end, by other tabs, and by looking again.
//
// A browser opens six connections to a server, for all tabs together. So each tab follows the events of one job only,
// and none while it is hidden; the others are seen when the list is read again.

import * as api from "./api.js";
import { attempt, say } from "./dom.js";
import { change, describe, isOpen, state } from "./store.js";

const SOON = 3000, LATER = 15000; // ms between two looks, with and without open jobs
const tabs = new BroadcastChannel("maskvat");
let watched = null; // { id, source }
let timer = 0;

/** Read the jobs and videos again, and follow the next job. `wanted`: the video to show, if it is still there. */
export async function refresh(wanted = state.file) {
  try {
    const [files, jobs] = await Promise.all([api.listFiles(), api.listJobs()]);
    tell(jobs.data);
    const file = files.data.some(({ id }) => id === wanted) ? wanted : (files.data[0]?.id ?? null);
    change({ files: files.data, jobs: jobs.data, ...(file === state.file ? {} : { file, range: null }) });
    follow();
  } finally {
    clearTimeout(timer); // also after an error: the server may come back
    timer = setTimeout(lookAgain, state.jobs.some(isOpen) ? SOON : LATER);
  }
}

function lookAgain() {
  if (!document.hidden) attempt(() => refresh());
}

/** Do something to jobs or videos, then look again, here and in the other tabs. */
export async function act(task) {
  const done = await attempt(task);
  await attempt(() => refresh());
  tabs.postMessage("look again");
  return done;
}

/** Say what has ended since the last look. */
function tell(jobs) {
  const before = new Map(state.jobs.map((job) => [job.id, job]));
  for (const job of jobs) {
    if (!before.has(job.id) || isOpen(job) || !isOpen(before.get(job.id))) continue;
    const ends = { succeeded: "done", failed: `failed: ${job.error?.message}`, cancelled: "cancelled" };
    say(`${describe(job)}: ${ends[job.status]}`);
  }
}

function follow() {
  const open = document.hidden ? [] : state.jobs.filter(isOpen);
  const next = open.find((job) => job.status === "running") ?? open.sort((a, b) => a.position - b.position)[0];
  if (next?.id === watched?.id) return;
  watched?.source.close();
  watched = next ? { id: next.id, source: listen(next.id) } : null;
}

function listen(id) {
  const source = api.jobEvents(id);
  source.addEventListener("progress", (event) => merge(id, JSON.parse(event.data)));
  source.addEventListener("status", (event) => {
    const data = JSON.parse(event.data);
    if (!isOpen(data)) source.close(); // else the browser would ask again, for nothing
    if (data.status === state.jobs.find((job) => job.id === id)?.status) return;
    attempt(() => refresh());
  });
  return source;
}

function merge(id, { status, phase, progress }) {
  change({ jobs: state.jobs.map((job) => (job.id === id ? { ...job, status, phase, progress } : job)) });
}

export function prepareJobs() {
  tabs.onmessage = lookAgain;
  document.addEventListener("visibilitychange", () => (document.hidden ? follow() : lookAgain()));
}
