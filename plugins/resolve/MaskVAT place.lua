-- MaskVAT for DaVinci Resolve: puts sounds that already exist under the clip at the playhead. Lua 5.1, LuaJIT.
-- For editions whose scripts may not start programs (free, from 21.1 on). It reads the file that
--     maskvat shot.mov --timeline shot.lua
-- wrote beside the video, with `dofile`; it needs no other access. README.md says how to install and use it.
-- `print` may be mute there, so an error also becomes a red marker at the clip.
local MARK, BIN, unpack = "maskvat", "MaskVAT", unpack or table.unpack

local function problem(text) error({ text = text }, 0) end

local POOL = { "GetCurrentFolder", "GetRootFolder", "AddSubFolder", "SetCurrentFolder", "ImportMedia", "AppendToTimeline" }
local TRACKS = { "AddTrack", "GetTrackCount", "SetTrackName", "GetItemListInTrack", "DeleteClips" }

local function check(target, ...) -- a function that this version does not have is nil
  for _, name in ipairs({ ... }) do
    if not target[name] then problem("this version of Resolve has no " .. name .. "; import a timeline file instead") end
  end
end

local function ask(target, name, ...) -- calls a function of Resolve
  check(target, name)
  return target[name](target, ...)
end

local function exact_rate(value) -- numerator, denominator of "23.976", 29.97, "29.97 DF", 50
  local number = tonumber((tostring(value):match("^%s*([%d.]+)")))
  for _, whole in ipairs({ 24, 30, 48, 60, 120 }) do
    if number and math.abs(number - whole * 1000 / 1001) < 0.005 then return whole * 1000, 1001 end
  end
  if not number or number < 1 or math.abs(number - math.floor(number + 0.5)) > 0.001 then
    problem("the frame rate " .. tostring(value) .. " is not a standard one; import a timeline file instead")
  end
  return math.floor(number + 0.5), 1
end

local function plain(path) return (path:gsub("\\", "/")) end

-- ---------------------------------------------------------------- what is there
local function read_clip(timeline) -- the used part of the clip at the playhead, in frames
  local item = ask(timeline, "GetCurrentVideoItem")
  if not item then problem("no clip under the playhead; move the playhead onto a clip of a video track") end
  local media = ask(item, "GetMediaPoolItem")
  local path = media and ask(media, "GetClipProperty", "File Path") or ""
  if path == "" then problem("the clip under the playhead has no video file (a title, generator or compound clip)") end
  local clip = { path = path, start = ask(item, "GetStart"), frames = ask(item, "GetDuration"), item = item }
  clip.left = ask(item, "GetLeftOffset")
  clip.rate, clip.scale = exact_rate(ask(timeline, "GetSetting", "timelineFrameRate"))
  local first, last = ask(item, "GetSourceStartFrame"), ask(item, "GetSourceEndFrame")
  if first and last and (last < first or math.abs(last - first - clip.frames) > 2) then
    problem(("the clip shows %d frames of its video in %d frames of the timeline: its speed was changed. "
      .. "Render it in place, then use the new clip"):format(last - first, clip.frames))
  end
  return clip
end

local function read_table(clip) -- what maskvat wrote beside the video
  local path = clip.path:gsub("%.[^./\\]*$", "") .. ".lua"
  if not dofile then problem("scripts may not load files here; import a timeline file instead") end
  local loaded, found = pcall(dofile, path)
  if not loaded then problem(path .. " cannot be loaded; make it with: maskvat VIDEO --timeline " .. path) end
  if type(found) ~= "table" or found.format ~= "maskvat-timeline" or found.version ~= 1 then
    problem(path .. " is not a file of this version of maskvat; make it again with --timeline")
  end
  if plain(found.video) ~= plain(clip.path) then
    problem(path .. " belongs to " .. found.video .. ", not to " .. clip.path)
  end
  if found.rate[1] * clip.scale ~= found.rate[2] * clip.rate then
    problem(("the video has %g frames per second and the timeline %g: use a timeline of the video's rate"):format(
      found.rate[1] / found.rate[2], clip.rate / clip.scale))
  end
  return found
end

-- ---------------------------------------------------------------- onto the timeline
local function import(pool, path) -- into a bin of its own; the user's bin is current again afterwards
  local before, root, bin = ask(pool, "GetCurrentFolder"), ask(pool, "GetRootFolder"), nil
  for _, folder in ipairs(ask(root, "GetSubFolderList") or {}) do
    if ask(folder, "GetName") == BIN then bin = folder end
  end
  bin = bin or ask(pool, "AddSubFolder", root, BIN)
  if bin then ask(pool, "SetCurrentFolder", bin) end
  local found = ask(pool, "ImportMedia", { path })
  if before then ask(pool, "SetCurrentFolder", before) end
  if not found or not found[1] then problem(path .. " was not imported; check that the file is there") end
  return found[1]
end

local function clear(timeline, track)
  local items = ask(timeline, "GetItemListInTrack", "audio", track)
  if items and items[1] then ask(timeline, "DeleteClips", items, false) end
end

local function try_end(pool, timeline, wish, last) -- frames found by a new reading; the answer alone proves nothing
  local info = { mediaType = 2, endFrame = last }
  for key, value in pairs(wish) do info[key] = value end
  local called, answer = pcall(ask, pool, "AppendToTimeline", { info })
  if not called or not answer or not answer[1] then return 0 end
  for _, item in ipairs(ask(timeline, "GetItemListInTrack", "audio", wish.trackIndex) or {}) do
    if ask(item, "GetStart") == wish.recordFrame then return ask(item, "GetDuration") end
  end
  return 0
end

local function place(pool, timeline, clip, sound, number)
  local from = math.max(sound.first, clip.left)
  local to = math.min(sound.first + sound.frames, clip.left + clip.frames)
  if from >= to then
    problem(("%s is for the frames %d to %d, the clip shows %d to %d"):format(
      sound.path, sound.first, sound.first + sound.frames, clip.left, clip.left + clip.frames))
  end
  local media = import(pool, sound.path)
  local rate, scale = exact_rate(ask(media, "GetClipProperty", "FPS")) -- a sound gets the project's rate
  local factor = rate * clip.scale / (scale * clip.rate)
  if factor ~= 1 and (from > sound.first or to < sound.first + sound.frames) then
    problem(("the project has %g frames per second and the timeline %g: make the sound for the used part alone "
      .. "(--range %df-%df)"):format(rate / scale, clip.rate / clip.scale, clip.left, clip.left + clip.frames))
  end
  ask(timeline, "AddTrack", "audio", "mono")
  local track = ask(timeline, "GetTrackCount", "audio")
  ask(timeline, "SetTrackName", "audio", track, sound.name)
  local wish = { mediaPoolItem = media, trackIndex = track, startFrame = from - sound.first,
    recordFrame = clip.start + from - clip.left }
  local length, best, best_end = to - from, 0, nil
  local last = wish.startFrame + math.floor(length * factor + 0.5)
  for _, try in ipairs({ last, last - 1, last + 1 }) do -- whether the end frame belongs to it differs
    local frames = try_end(pool, timeline, wish, try)
    if math.abs(frames - length) < math.abs(best - length) then best, best_end = frames, try end
    if frames == length then break end
    clear(timeline, track)
  end
  if best ~= length and best_end then best = try_end(pool, timeline, wish, best_end) end
  if math.abs(best - length) > 1 then
    clear(timeline, track)
    if timeline.DeleteTrack then ask(timeline, "DeleteTrack", "audio", track) end
    problem(("Resolve placed %d of %d frames; drag the sound from the bin %s yourself"):format(best, length, BIN))
  end
  if number > 1 and timeline.SetTrackEnable then ask(timeline, "SetTrackEnable", "audio", track, false) end
end

-- ---------------------------------------------------------------- the whole
local function mark(timeline, text) -- an error that can be seen where `print` is mute
  if not (timeline and timeline.AddMarker and timeline.DeleteMarkerByCustomData) then return end
  local item = ask(timeline, "GetCurrentVideoItem")
  local at = item and ask(item, "GetStart") - ask(timeline, "GetStartFrame") or 0
  ask(timeline, "DeleteMarkerByCustomData", MARK)
  if text then ask(timeline, "AddMarker", at, "Red", "MaskVAT", text, 1, MARK) end
end

local function run()
  local manager = resolve and ask(resolve, "GetProjectManager")
  local project = manager and ask(manager, "GetCurrentProject")
  local timeline = project and ask(project, "GetCurrentTimeline")
  if not timeline then problem("no timeline is open; open one") end
  local done, failed = pcall(function()
    local pool = ask(project, "GetMediaPool")
    check(pool, unpack(POOL))
    check(timeline, unpack(TRACKS))
    local clip = read_clip(timeline)
    local found = read_table(clip)
    for number, sound in ipairs(found.sounds) do place(pool, timeline, clip, sound, number) end
  end)
  mark(timeline, not done and (type(failed) == "table" and failed.text or tostring(failed)) or nil)
  if not done then error(failed, 0) end
end

local done, failed = pcall(run)
local text = done and "sounds placed" or "error: " .. (type(failed) == "table" and failed.text or tostring(failed))
print("MaskVAT: " .. text)
return text
