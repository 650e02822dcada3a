-- Run one file of a test suite that was written for lua: KIND FILE. Under lunad and under lua.
local kind, file = ...

-- Tests that start an interpreter find it in arg; what they want of it are the options of lua.
arg = { [0] = file, [-1] = "lua5.4" }

-- Under lunad, uv.run and uv.stop wait for the loop that the host runs.
local function adapt_luv(lunad)
  local uv = require "luv"
  local stopped
  local adapted = setmetatable({}, { __index = uv })
  function adapted.run(mode)
    stopped = false
    repeat lunad.sleep(0.001) until mode or stopped or not uv.loop_alive()
    return uv.loop_alive()
  end
  function adapted.stop() stopped = true end
  package.loaded.luv = adapted
end

-- What the suite's own all.lua sets; not every file can be strict about the machine that it runs on.
local function prepare_lua()
  ARG = arg
  _nomsg, T = true, nil
  _port = file == "attrib.lua" or file == "files.lua"
end

local kinds = {}

function kinds.lua()
  prepare_lua()
  local chunk = assert(loadfile(file))
  if file == "big.lua" then -- it yields, to see that a large function can
    local big = coroutine.wrap(chunk)
    assert(big() == "b" and big() == "a")
    return
  end
  chunk()
end

function kinds.luv()
  local ok, lunad = pcall(require, "lunad")
  if ok then adapt_luv(lunad) end
  package.path = "./?.lua;" .. package.path
  local tap = require "lib/tap"
  local name = file:match("([^/]+)%.lua$")
  tap(name)
  require("tests/" .. name)
  tap(true)
end

function kinds.plain()
  assert(loadfile(file))()
end

kinds[kind]()
