/** The way from a selected clip to sounds on new tracks, against fakes; the client also against a real server if named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADDRESS, Server, type Fetch, type Options } from "../src/client";
import { makeSounds } from "../src/make";
import { Problem } from "../src/problem";
import { FakePremiere, FakeServer, type Clip } from "./fake";

const CLIP: Clip = { path: "/films/shot.mov", start: 10, end: 12, first: 1.5, last: 3.5 };

function scene(clip: Partial<Clip> = {}) {
  const premiere = new FakePremiere();
  premiere.clips = [{ ...CLIP, ...clip }];
  return { premiere, server: new FakeServer(), said: [] as string[], stop: new AbortController(), saved: new Map<string, string>() };
}

async function run(s: ReturnType<typeof scene>, options: Options = {}, token = "secret"): Promise<string[]> {
  const save = async (name: string, bytes: ArrayBuffer) => {
    s.saved.set(name, new TextDecoder().decode(bytes));
    return `/sounds/${name}`;
  };
  const server = new Server(token, s.server.fetch, 1);
  return makeSounds(s.premiere.api, server, options, save, (text) => s.said.push(text), s.stop.signal);
}

function refused(s: ReturnType<typeof scene>, message: RegExp, token?: string): Promise<void> {
  return assert.rejects(run(s, {}, token), (error) => error instanceof Problem && message.test(error.message));
}

test("every take is on a new track at the clip's start, the best first", async () => {
  const s = scene();
  s.server.takes = 2;
  assert.deepEqual(await run(s, { steps: 8 }), ["/sounds/shot.take1.wav", "/sounds/shot.take2.wav"]);
  const body = { path: "/films/shot.mov", label: "shot.mov", options: { rate: 48000, steps: 8, range: "1.500000-3.500000" } };
  assert.deepEqual(s.server.asked[0], { method: "POST", path: "/v1/jobs", body });
  const at = { start: 10, end: 12 };
  assert.deepEqual(s.premiere.placed, [{ path: "/sounds/shot.take1.wav", ...at }, { path: "/sounds/shot.take2.wav", ...at }]);
  assert.equal(s.premiere.audio.length, 3);
  assert.equal(s.saved.get("shot.take1.wav"), "bytes of /v1/jobs/j1/results/sound1");
  assert.deepEqual(s.said, ["waiting: 2 before this one", "sample 50 %", "placed 2 sounds"]);
});

test("the clip may be selected with its linked sound", async () => {
  const s = scene();
  s.premiere.clips.push({ ...CLIP });
  await run(s);
  assert.equal(s.premiere.placed.length, 1);
});

test("selections that cannot be", async () => {
  const two = scene();
  two.premiere.clips.push({ ...CLIP, start: 20, end: 22 });
  await refused(two, /2 clips are selected; select one/);
  const none = scene();
  none.premiere.clips = [];
  await refused(none, /0 clips are selected/);
  none.premiere.hasSequence = false;
  await refused(none, /no sequence is open/);
  await refused(scene({ path: "" }), /has no video file/);
  await refused(scene({ speed: 2, last: 5.5 }), /shows 4.000 s of its video in 2.000 s: its speed was changed/);
  await refused(scene({ reversed: true }), /its speed was changed/);
  await refused(scene({ last: 3.6 }), /its speed was changed/);
});

test("if overwriting makes no track, inserting does", async () => {
  const s = scene();
  s.premiere.overwriteMakesTrack = false;
  await run(s);
  assert.deepEqual([s.premiere.used, s.premiere.placed.length], [["overwrite", "insert"], 1]);
  const never = scene();
  never.premiere.overwriteMakesTrack = never.premiere.insertMakesTrack = false;
  await refused(never, /did not place the sound as it should: undo, then drag \/sounds\/shot.take1.wav/);
  const other = scene();
  other.premiere.importWorks = false;
  await refused(other, /did not import/);
});

test("a sound of another length is noticed", async () => {
  const s = scene();
  s.premiere.seconds = 2.04; // one frame
  await run(s);
  const long = scene();
  long.premiere.seconds = 2.2;
  await refused(long, /did not place the sound/);
  assert.equal(long.premiere.placed.length, 1); // no second one on top of it
});

test("errors of the server say what to do", async () => {
  await refused(scene(), /copy the token from the file `tokens`/, "wrong");
  const down = scene();
  down.server.down = true;
  await refused(down, /no answer from http:\/\/127.0.0.1:8440 .*; start `maskvat serve`/);
  for (const [status, code, text] of [
    [403, "path_not_allowed", /no paths: start it with `maskvat serve --allow-folder/],
    [403, "wrong_origin", /use a timeline file instead/],
    [400, "option_error", /^no paths$/],
  ] as const) {
    const s = scene();
    s.server.problem = { status, code, detail: "no paths" };
    await refused(s, text);
  }
  const failed = scene();
  failed.server.states = [{ status: "running" }, { status: "failed", error: { code: "media_error", message: "no picture" } }];
  await refused(failed, /^no picture$/);
  assert.equal(failed.premiere.placed.length, 0);
});

test("cancel ends the job on the server, too", async () => {
  const s = scene();
  s.stop.abort();
  await refused(s, /^cancelled$/);
  assert.deepEqual(s.server.asked.map((a) => a.path).slice(1), ["/v1/jobs/j1/cancel", "/v1/jobs/j1"]);
});

const { SERVE_URL: url, SERVE_TOKEN: token, SERVE_VIDEO: video } = process.env;
test("a real server makes a sound of the range", { skip: url ? false : "needs SERVE_URL" }, async () => {
  const fetch: Fetch = (address, init) => globalThis.fetch(address.replace(ADDRESS, url!), init); // another port
  const server = new Server(token!, fetch, 50);
  const job = await server.finish(await server.create(video!, [0.4, 1.2], { steps: 2 }), () => {}, new AbortController().signal);
  const [sound] = job.results.filter((result) => result.kind === "sound");
  const bytes = Buffer.from(await server.download(sound!));
  assert.equal(bytes.subarray(0, 4).toString(), "RIFF");
  assert.equal(bytes.readUInt32LE(24), 48000);
  assert.equal(bytes.readUInt32LE(bytes.indexOf("data") + 4) / 2, 0.8 * 48000);
  await assert.rejects(server.create("/no/such.mov", [0, 1], {}), /--allow-folder/);
  await assert.rejects(server.create(video!, [0, 1], { nonsense: 1 }), Problem);
  await assert.rejects(new Server("x".repeat(40), fetch).create(video!, [0, 1], {}), /copy the token/);
});
