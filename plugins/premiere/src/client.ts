/** The client of `maskvat serve`: everything that this plug-in knows of its HTTP interface is here. */
import { Problem } from "./problem";

export const ADDRESS = "http://127.0.0.1:8440"; // manifest.json allows this one only

export interface Result {
  name: string;
  kind: "sound" | "take" | "video" | "report" | "timeline";
  take: number | null;
  download: string;
  url: string;
}

export interface Job {
  id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  phase: string;
  progress: number;
  position: number | null;
  error: { code: string; message: string } | null;
  results: Result[];
  warnings: string[];
}

export type Options = Record<string, string | number | boolean>;
export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** What to do about an error, for the codes where this panel knows more than the server. */
const ADVICE: Record<string, string> = {
  not_signed_in: "copy the token from the file `tokens`, which maskvat serve names when it starts",
  path_not_allowed: "start it with `maskvat serve --allow-folder FOLDER`, with the folder of your videos",
  wrong_origin: "this version of Premiere cannot talk to maskvat serve; use a timeline file instead (README.md)",
};

export class Server {
  constructor(
    private readonly token: string,
    private readonly fetch: Fetch = (url, init) => globalThis.fetch(url, init),
    private readonly pause = 500, // milliseconds between two questions
  ) {}

  /** Ask for the sound of a part of a video on this machine. `range` is in seconds from its first picture. */
  async create(path: string, range: [number, number], options: Options): Promise<Job> {
    const all = { rate: 48000, ...options, range: range.map((second) => second.toFixed(6)).join("-") };
    const body = JSON.stringify({ path, options: all, label: path.split(/[\\/]/).pop() });
    return this.json("/v1/jobs", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  }

  /** Wait for the end of a job. A signal cancels it. Raises Problem if it makes nothing. */
  async finish(job: Job, show: (job: Job) => void, signal: AbortSignal): Promise<Job> {
    let told = false;
    while (job.status === "queued" || job.status === "running") {
      if (signal.aborted && !told) {
        await this.json(`/v1/jobs/${job.id}/cancel`, { method: "POST" });
        told = true;
      }
      show(job);
      await new Promise((resolve) => setTimeout(resolve, this.pause));
      job = await this.json(`/v1/jobs/${job.id}`);
    }
    if (job.status === "cancelled") throw new Problem("cancelled");
    if (job.status === "failed") throw new Problem(job.error?.message ?? "the job failed");
    return job;
  }

  /** The bytes of a result. */
  async download(result: Result): Promise<ArrayBuffer> {
    return (await this.ask(result.url)).arrayBuffer();
  }

  private async json(path: string, init: RequestInit = {}): Promise<Job> {
    return (await (await this.ask(path, init)).json()) as Job;
  }

  private async ask(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { ...(init.headers as Record<string, string>), Authorization: `Bearer ${this.token}` };
    let response: Response;
    try {
      response = await this.fetch(ADDRESS + path, { ...init, headers });
    } catch (error) {
      throw new Problem(`no answer from ${ADDRESS} (${String(error)}); start \`maskvat serve\``);
    }
    if (response.ok) return response;
    const problem = (await response.json().catch(() => ({}))) as { code?: string; detail?: string };
    const advice = ADVICE[problem.code ?? ""];
    throw new Problem(`${problem.detail ?? `status ${response.status}`}${advice ? `: ${advice}` : ""}`);
  }
}
