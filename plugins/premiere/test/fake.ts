/** Premiere and `maskvat serve`, as far as the plug-in uses them. The fake is checked against Adobe's types, too. */
import type { Action, AudioClipTrackItem, ClipProjectItem, CompoundAction, FolderItem, Project, ProjectItem, Sequence,
  SequenceEditor, TickTime, VideoClipTrackItem } from "@adobe/premierepro";
import { ADDRESS, type Fetch, type Job } from "../src/client";
import type { Api } from "../src/timeline";

export const TICKS = 254016000000; // in a second

export function time(seconds: number): TickTime {
  const ticks = Math.round(seconds * TICKS);
  return { seconds: ticks / TICKS, ticks: String(ticks), ticksNumber: ticks } as TickTime;
}

interface Placed { path: string; start: number; end: number }

/** What a test chooses. Times are in seconds. */
export interface Clip { path: string; start: number; end: number; first: number; last: number; speed?: number; reversed?: boolean }

export class FakePremiere {
  clips: Clip[] = [];
  imported: string[] = [];
  audio: Placed[][] = [[]];
  frames = 25;
  seconds = 2; // length of the next sound
  hasSequence = true;
  importWorks = true;
  overwriteMakesTrack = true;
  insertMakesTrack = true;
  used: string[] = [];
  private locked = false;

  /** The sounds on new tracks. */
  get placed(): Placed[] {
    return this.audio.slice(1).flat();
  }

  get api(): Api {
    const api = {
      Project: { getActiveProject: async () => this.project() },
      ClipProjectItem: { cast: (item: ProjectItem) => this.cast(item) },
      SequenceEditor: { getEditor: () => this.editor() },
      Constants: { TrackItemType: { EMPTY: 0, CLIP: 1 } },
    };
    return api as unknown as Api;
  }

  private cast(item: ProjectItem): ClipProjectItem {
    const path = (item as unknown as { path?: string }).path;
    if (path === undefined) throw new Error("Illegal Parameter type"); // a bin
    return { getMediaFilePath: async () => path } as ClipProjectItem;
  }

  private project(): Project {
    const bin = {} as ProjectItem;
    const items = () => [bin, ...this.imported.map((path) => ({ path }) as unknown as ProjectItem)];
    const project: Partial<Project> = {
      getActiveSequence: async () => (this.hasSequence ? this.sequence() : null) as Sequence,
      importFiles: async (paths) => {
        if (this.importWorks) this.imported.push(...paths);
        return this.importWorks;
      },
      getRootItem: async () => ({ getItems: async () => items() }) as FolderItem,
      lockedAccess: (callback) => {
        this.locked = true;
        callback();
        this.locked = false;
      },
      executeTransaction: (callback) => {
        if (!this.locked) throw new Error("Not in a locked access");
        callback({ addAction: (action: Action) => ((action as unknown as () => void)(), true) } as CompoundAction);
        return true;
      },
    };
    return project as Project;
  }

  private sequence(): Sequence {
    const track = (index: number) => ({ getTrackItems: () => this.audio[index]!.map((item) => ({
      getStartTime: async () => time(item.start), getEndTime: async () => time(item.end) }) as AudioClipTrackItem) });
    const sequence = {
      getSelection: async () => ({ getTrackItems: async () => this.clips.map((clip) => this.item(clip)) }),
      getAudioTrackCount: async () => this.audio.length,
      getAudioTrack: async (index: number) => track(index),
      getTimebase: async () => String(TICKS / this.frames),
    };
    return sequence as unknown as Sequence;
  }

  private item(clip: Clip): VideoClipTrackItem {
    const item: Partial<VideoClipTrackItem> = {
      getStartTime: async () => time(clip.start),
      getEndTime: async () => time(clip.end),
      getInPoint: async () => time(clip.first),
      getOutPoint: async () => time(clip.last),
      getSpeed: async () => clip.speed ?? 1,
      isSpeedReversed: async () => (clip.reversed ? 1 : 0),
      getProjectItem: async () => ({ path: clip.path }) as unknown as ProjectItem,
    };
    return item as VideoClipTrackItem;
  }

  private editor(): SequenceEditor {
    const put = (name: string, works: boolean) => (item: ProjectItem, start: TickTime, _video: number, track: number) => {
      const action = () => {
        this.used.push(name);
        if (track >= this.audio.length) {
          if (!works) return; // nothing happens, and no error
          this.audio.push([]);
        }
        const path = (item as unknown as { path: string }).path;
        this.audio[track]!.push({ path, start: start.seconds, end: start.seconds + this.seconds });
      };
      return action as unknown as Action;
    };
    return {
      createOverwriteItemAction: put("overwrite", this.overwriteMakesTrack),
      createInsertProjectItemAction: put("insert", this.insertMakesTrack),
    } as unknown as SequenceEditor;
  }
}

/** Answers as docs/SERVER.md says: each question about the job brings it one state further. */
export class FakeServer {
  asked: { method: string; path: string; body: unknown }[] = [];
  states: Partial<Job>[] = [
    { status: "queued", position: 2 }, { status: "running", phase: "sample", progress: 0.5 }, { status: "succeeded" },
  ];
  problem: { status: number; code: string; detail: string } | undefined;
  takes = 1;
  down = false;
  private step = 0;

  fetch: Fetch = async (url, init = {}) => {
    if (this.down) throw new TypeError("Network request failed");
    if (!url.startsWith(ADDRESS)) throw new Error(`${url} is not allowed by the manifest`);
    const [method, path] = [init.method ?? "GET", url.slice(ADDRESS.length)];
    const headers = init.headers as Record<string, string>;
    this.asked.push({ method, path, body: init.body ? JSON.parse(String(init.body)) : null });
    if (headers.Authorization !== "Bearer secret") return this.error(401, "not_signed_in", "send a token");
    if (this.problem) return this.error(this.problem.status, this.problem.code, this.problem.detail);
    if (path === "/v1/jobs" && method === "POST") return this.json(201, this.job(this.states[0]!));
    if (path === "/v1/jobs/j1/cancel") {
      this.states = [{ status: "cancelled" }];
      this.step = 0;
      return this.json(202, this.job(this.states[0]!));
    }
    if (path === "/v1/jobs/j1") {
      this.step = Math.min(this.step + 1, this.states.length - 1);
      return this.json(200, this.job(this.states[this.step]!));
    }
    return new Response(new TextEncoder().encode(`bytes of ${path}`));
  };

  private job(state: Partial<Job>): Job {
    const results = Array.from({ length: this.takes }, (_, n) => ({ name: `sound${n}`, kind: "sound" as const,
      take: this.takes - n, download: `shot.take${this.takes - n}.wav`, url: `/v1/jobs/j1/results/sound${n}` }));
    const report = { name: "report", kind: "report" as const, take: null, download: "r.json", url: "/x" };
    return { id: "j1", status: "queued", phase: "queued", progress: 0, position: null, error: null,
      results: state.status === "succeeded" ? [report, ...results] : [], warnings: [], ...state };
  }

  private json(status: number, value: unknown): Response {
    return new Response(JSON.stringify(value), { status, headers: { "Content-Type": "application/json" } });
  }

  private error(status: number, code: string, detail: string): Response {
    return this.json(status, { code, status, detail, title: code });
  }
}
