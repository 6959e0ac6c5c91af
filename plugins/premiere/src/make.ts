/** The whole way from a selected clip to sounds on the timeline, without anything of the panel. */
import { type Job, type Options, type Server } from "./client";
import { place, readSelection, type Api } from "./timeline";

/** Saves a file. Returns its whole path. Never replaces one. */
export type Save = (name: string, bytes: ArrayBuffer) => Promise<string>;

/** Make the sounds of the selected clip and place them, each on a new track. Returns their paths. Raises Problem. */
export async function makeSounds(
  api: Api, server: Server, options: Options, save: Save, show: (text: string) => void, signal: AbortSignal,
): Promise<string[]> {
  const clip = await readSelection(api);
  const job = await server.finish(await server.create(clip.path, clip.range, options), (job) => show(state(job)), signal);
  const sounds = job.results.filter((result) => result.kind === "sound").sort((a, b) => (a.take ?? 0) - (b.take ?? 0));
  const paths: string[] = [];
  for (const sound of sounds) {
    const path = await save(sound.download, await server.download(sound));
    await place(api, clip, path);
    paths.push(path);
  }
  show([`placed ${paths.length} sound${paths.length === 1 ? "" : "s"}`, ...job.warnings].join("\n"));
  return paths;
}

function state(job: Job): string {
  if (job.status === "queued") return job.position ? `waiting: ${job.position} before this one` : "waiting";
  return `${job.phase} ${Math.round(100 * job.progress)} %`;
}
