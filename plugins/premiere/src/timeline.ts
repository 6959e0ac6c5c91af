/** What this plug-in reads and changes in Premiere. */
import type {
  ClipProjectItem, FolderItem, premierepro, Project, ProjectItem, Sequence, TickTime,
} from "@adobe/premierepro";
import { Problem } from "./problem";

export type Api = Pick<premierepro, "Project" | "ClipProjectItem" | "SequenceEditor" | "Constants">;

/** The used part of the selected clip. */
export interface Selected {
  project: Project;
  sequence: Sequence;
  path: string; // of the video
  start: TickTime; // on the timeline, from its start
  range: [number, number]; // seconds of the video, from its first picture
  key: string; // tells two clips apart
}

const SLACK = 0.001; // seconds

/** Read the one clip that is selected. Its linked sound may be selected with it. Raises Problem. */
export async function readSelection(api: Api): Promise<Selected> {
  const project = await api.Project.getActiveProject();
  const sequence = project && (await project.getActiveSequence());
  if (!sequence) throw new Problem("no sequence is open; open one");
  const found: Selected[] = [];
  for (const item of await (await sequence.getSelection()).getTrackItems()) {
    const clip = api.ClipProjectItem.cast(await item.getProjectItem());
    const path = clip ? await clip.getMediaFilePath() : "";
    if (!path) throw new Problem("the selected clip has no video file (a title, graphic or nested sequence)");
    const [start, end, first, last] = await Promise.all([
      item.getStartTime(), item.getEndTime(), item.getInPoint(), item.getOutPoint(),
    ]);
    const shown = end.seconds - start.seconds;
    const used = last.seconds - first.seconds;
    if ((await item.getSpeed()) !== 1 || (await item.isSpeedReversed()) || Math.abs(shown - used) > SLACK)
      throw new Problem(`the clip shows ${used.toFixed(3)} s of its video in ${shown.toFixed(3)} s: its speed was ` +
        "changed. Render and replace it, then use the new clip");
    const key = [path, start.ticks, first.ticks, last.ticks].join("|");
    if (!found.some((other) => other.key === key))
      found.push({ project, sequence, path, start, range: [first.seconds, last.seconds], key });
  }
  const [only] = found;
  if (!only || found.length > 1) throw new Problem(`${found.length} clips are selected; select one on the timeline`);
  return only;
}

/** Import a sound and put it on a new audio track at the clip's start. Raises Problem if it is not found there. */
export async function place(api: Api, clip: Selected, sound: string): Promise<void> {
  const { project, sequence, start } = clip;
  if (!(await project.importFiles([sound], true)))
    throw new Problem(`Premiere did not import ${sound}; drag it onto the timeline yourself`);
  const item = await findItem(api, await project.getRootItem(), sound);
  if (!item) throw new Problem(`${sound} is not in the project after its import; drag it there yourself`);
  const track = await sequence.getAudioTrackCount(); // past the last one: a new track
  const editor = api.SequenceEditor.getEditor(sequence);
  const actions = [
    () => editor.createOverwriteItemAction(item, start, 0, track), // moves nothing
    () => editor.createInsertProjectItemAction(item, start, 0, track, true), // documented to make a new track
  ];
  for (const action of actions) {
    project.lockedAccess(() => {
      project.executeTransaction((whole) => whole.addAction(action()), "MaskVAT sound");
    });
    if (await isThere(api, sequence, track, clip)) return;
    if ((await sequence.getAudioTrackCount()) > track) break; // it did something else: do not add to it
  }
  throw new Problem(`Premiere did not place the sound as it should: undo, then drag ${sound} onto the timeline yourself`);
}

/** Whether the new track has a clip of the right length at the right time. The answer of a call proves nothing. */
async function isThere(api: Api, sequence: Sequence, track: number, clip: Selected): Promise<boolean> {
  if ((await sequence.getAudioTrackCount()) <= track) return false;
  const items = (await sequence.getAudioTrack(track)).getTrackItems(api.Constants.TrackItemType.CLIP, false);
  for (const item of items) {
    const [start, end] = await Promise.all([item.getStartTime(), item.getEndTime()]);
    const length = end.seconds - start.seconds;
    const frame = Number(await sequence.getTimebase()) / 254016000000; // ticks per second
    if (start.ticks === clip.start.ticks && Math.abs(length - (clip.range[1] - clip.range[0])) <= frame) return true;
  }
  return false;
}

async function findItem(api: Api, folder: FolderItem, path: string): Promise<ProjectItem | undefined> {
  for (const item of await folder.getItems()) {
    let clip: ClipProjectItem | undefined;
    try {
      clip = api.ClipProjectItem.cast(item);
    } catch {
      continue; // a bin
    }
    if (clip && plain((await clip.getMediaFilePath()) ?? "") === plain(path)) return item;
  }
  return undefined;
}

function plain(path: string): string {
  return path.replace(/\\/g, "/");
}
