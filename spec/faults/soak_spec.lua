-- A slice of scripts/soak: a few system calls that fail, and some seconds of random use and of kills.

local stress = require "support.stress"
local support = require "support"

-- Run scripts/soak in the root of the source.
local function soak(box, ...)
  local result = box:run({ ... }, { program = support.root .. "/scripts/soak", cwd = support.root,
    env = { LUNAD = support.binary }, seconds = stress.is_whole and 900 or 120 })
  return result, result.out .. result.err
end

-- Run cases of the fault sweep; all must pass.
local function faults(box, ...)
  local words = { "faults", "-j", "1" }
  for _, case in ipairs { ... } do
    words[#words + 1] = "--case"
    words[#words + 1] = case
  end
  local result, said = soak(box, table.unpack(words))
  if result.code == 77 then
    pending("this machine does not allow tracing")
    return
  end
  assert.equal(0, result.code, said)
  assert.matches(("%d cases, 0 failed"):format(select("#", ...)), said, 1, true)
end

describe("A system call that fails", function()
  local box = support.with_box(before_each, after_each)

  it("in a start is reported and leaves nothing, or is survived", function()
    faults(box, "start/plain/0/openat/2/EMFILE", "start/plain/2/openat/1/EIO",
      "start/plain/2/eventfd2/1/EMFILE", "start/plain/2/epoll_create1/1/ENOMEM", "start/plain/2/read/1/EINTR",
      "start/plain/2/listen/3/EADDRINUSE", "start/plain/0/ppoll/2/EINTR", "start/plain/0/recvmsg/1/ENOMEM")
  end)

  it("in a reload leaves the daemon whole", function()
    faults(box, "reload/plain/host/openat/1/EMFILE", "reload/plain/host/read/2/EIO",
      "reload/plain/host/epoll_create1/1/EMFILE")
  end)

  it("in a spawn refuses it or is survived", function()
    faults(box, "spawn/plain/host/pipe2/1/EMFILE", "spawn/plain/host/clone/1/EAGAIN",
      "spawn/plain/child/execve/1/EIO", "spawn/plain/child/dup3/1/EMFILE")
  end)

  it("in a reopen or a stop leaves a daemon that can be stopped", function()
    faults(box, "reopen/plain/host/openat/1/ENOMEM", "stop/plain/verb/socket/1/EMFILE",
      "stop/plain/host/unlinkat/1/EIO", "stop/plain/verb/unlinkat/4/EIO")
  end)

  it("because the kernel has no memory for an epoll set ends no daemon", function()
    faults(box, "start/plain/2/epoll_ctl/9/ENOMEM", "reload/plain/host/epoll_ctl/1/ENOMEM",
      "spawn/plain/host/epoll_ctl/2/ENOSPC", "stop/plain/host/epoll_ctl/1/ENOMEM")
  end)
end)

describe("Random use", function()
  local box = support.with_box(before_each, after_each)

  it("breaks nothing", function()
    local result, said = soak(box, "random", "--seconds", "5", "--seed", "1")
    assert.equal(0, result.code, said)
    assert.matches("0 problems", said, 1, true)
  end)
end)

describe("A process that is killed amid something", function()
  local box = support.with_box(before_each, after_each)

  it("leaves the service as its options say, and nothing else", function()
    local result, said = soak(box, "kills", "--seconds", stress.is_whole and "600" or "10", "--seed", "1")
    assert.equal(0, result.code, said)
    assert.matches("%d+ cases, 0 failed", said)
  end)
end)
