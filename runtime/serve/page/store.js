// What the page knows now. Parts of the page listen to changes; nothing else is shared.

export const state = {
  files: [], // uploads, the newest first
  jobs: [], // the newest first
  file: null, // id of the video that is shown
  listening: "original", // key of the take that is heard, or "original"
  before: "original", // what was heard before, for B
  range: null, // { begin, end }: the selected seconds of the video
};

const listeners = [];

/** Call `listener(names)` after each change, with the names of what changed. */
export function onChange(listener) {
  listeners.push(listener);
}

export function change(values) {
  Object.assign(state, values);
  for (const listener of listeners) listener(new Set(Object.keys(values)));
}

export const isOpen = (job) => job.status === "queued" || job.status === "running";

/** Whether a job made new sound, and did not only write a take in another format. */
const isMaking = ({ take, options }) => !take || Boolean(options.redo || options.vary || options.extend);

/** Jobs of the video that is shown, the oldest first. */
export const jobsOfFile = () => state.jobs.filter((job) => job.source.file_id === state.file).reverse();

/** The takes of the video that is shown. Keys 1 to 9 choose among the last nine. */
export function takes() {
  const found = jobsOfFile().filter((job) => job.status === "succeeded" && isMaking(job)).flatMap(takesOfJob);
  const first = Math.max(0, found.length - 9);
  return found.map((take, place) => ({ ...take, title: place + 1, digit: place >= first ? place - first + 1 : null }));
}

function takesOfJob(job) {
  const sounds = job.results.filter((result) => result.kind === "sound");
  return sounds.map((sound) => ({ key: `${job.id}/${sound.take}`, job, number: sound.take, sound }));
}

/** The take that is heard; undefined for the original sound. */
export const heardTake = () => takes().find((take) => take.key === state.listening);

/** Listen to something else. */
export function listenTo(key) {
  if (key !== state.listening) change({ before: state.listening, listening: key });
}

/** What a job does, in words. */
export function describe(job) {
  const { options, deliver, take } = job;
  if (options.redo) return `Redo ${options.redo} s`;
  if (options.vary) return "Vary a take";
  if (options.extend) return "Extend a take";
  if (take) return `Files: ${[deliver.sound, deliver.video && "video", deliver.timeline].filter(Boolean).join(", ")}`;
  return options.takes > 1 ? `Make ${options.takes} takes` : "Make a take";
}
