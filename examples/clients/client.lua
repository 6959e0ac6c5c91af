-- Makes a sound for a video with `maskvat stdio`. Lua 5.1 or newer, LuaJIT; no packages. docs/EMBEDDING.md has the protocol.
--     lua client.lua VIDEO OUTPUT.wav [STEPS]
-- MASKVAT is the program to start, with its arguments; by default "maskvat stdio".
-- Plain Lua cannot write to and read from one process. So all requests are in a file that the process reads, and the
-- events are read while it works. A host with real pipes (luv, lua-posix) can send requests at any time.
local video, output, steps = arg[1], arg[2], tonumber(arg[3] or "32")
if not output or not steps then
  io.stderr:write("usage: lua client.lua VIDEO OUTPUT.wav [STEPS]\n")
  os.exit(2)
end

local function quote(text) -- a JSON text
  return '"' .. text:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function text_at(line, from) -- reads the JSON text that begins at the first quote after `from`
  local at, parts = line:find('"', from, true) + 1, {}
  while line:sub(at, at) ~= '"' do
    local plain = line:match('^[^"\\]+', at)
    local code = line:match("^\\u00(%x%x)", at)
    if plain then
      parts[#parts + 1], at = plain, at + #plain
    elseif code then
      parts[#parts + 1], at = string.char(tonumber(code, 16)), at + 6
    else
      local escaped = line:sub(at + 1, at + 1)
      parts[#parts + 1], at = ESCAPES[escaped] or escaped, at + 2
    end
  end
  return table.concat(parts)
end

local function field(line, name) -- the text of the first field of this name, or nil
  local _, last = line:find('"' .. name .. '"%s*:%s*%[?%s*')
  return last and line:sub(last + 1, last + 1) == '"' and text_at(line, last) or nil
end

local path = os.tmpname()
local requests = assert(io.open(path, "w"))
requests:write('{"id": 1, "method": "load"}\n')
requests:write(('{"id": 2, "method": "generate", "video": %s, "output": %s, "options": {"steps": %d, "overwrite": true}}\n')
  :format(quote(video), quote(output), steps))
requests:close()

local process = assert(io.popen((os.getenv("MASKVAT") or "maskvat stdio") .. ' < "' .. path .. '"', "r"))
local result, problem
for line in process:lines() do
  local event = field(line, "event")
  if event == "hello" and not line:find('"protocol"%s*:%s*1[,}]') then
    problem = "this protocol is not known here"
  elseif event == "progress" then
    local fraction = tonumber(line:match('"fraction"%s*:%s*([%d.eE+-]+)'))
    io.stderr:write(("%s %.0f %%\n"):format(field(line, "stage"), 100 * fraction))
  elseif event == "done" and line:find('"id"%s*:%s*2[,}]') then
    result = field(line, "outputs")
  elseif event == "error" then
    problem = problem or field(line, "message")
  end
end
process:close()
os.remove(path)
if problem or not result then
  io.stderr:write("error: " .. (problem or "the process ended without an answer") .. "\n")
  os.exit(1)
end
print(result)
