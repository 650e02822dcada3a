-- The fault sweep: list the system calls that can fail, and run one case after the other.
--
--   lua5.4 soak/faults.lua list              one case on each line
--   lua5.4 soak/faults.lua run FILE I N      every N-th of the cases in FILE, from the I-th
--
-- A case is OPERATION/plain|user/WHERE/CALL/WHEN/ERRNO: the WHEN-th CALL in the process WHERE fails.

local support = require "support"
local soak = require "operations"

local INJECT = assert(os.getenv "SOAK_INJECT")
local CAP = tonumber(os.getenv "SOAK_CAP") or 24 -- of the same call in the same process

-- Note an interruption; the current case ends first and cleans up.
local interrupted = false
for _, name in ipairs { "sigint", "sigterm", "sighup" } do
  local handle = support.uv.new_signal()
  handle:start(name, function() interrupted = true end)
  handle:unref()
end

local NUMBERS = {
  EPERM = 1, ESRCH = 3, EINTR = 4, EIO = 5, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EMFILE = 24,
  ENOSPC = 28, EPIPE = 32, ENOLCK = 37, ENOSYS = 38, EADDRINUSE = 98, ENOBUFS = 105,
}

-- The errors with which calls are made to fail. A call that is not here cannot fail where lunad makes
-- it (rt_sigaction, getpid), or does not fail with an errno (brk).
local FILE = { "EACCES", "EIO", "ENOMEM" }
local OPEN = { "EMFILE", "EACCES", "EIO", "ENOMEM", "EINTR" }
local FRESH = { "EMFILE", "ENOMEM" }
local ERRORS = {
  open = OPEN, openat = OPEN, creat = OPEN, pidfd_open = FRESH, socket = FRESH, socketpair = FRESH,
  pipe = FRESH, pipe2 = FRESH, dup = { "EMFILE" }, dup2 = { "EMFILE", "EINTR" },
  dup3 = { "EMFILE", "EINTR" }, eventfd2 = FRESH, epoll_create1 = FRESH, timerfd_create = FRESH,
  memfd_create = FRESH, inotify_init1 = FRESH, inotify_add_watch = { "ENOSPC", "ENOMEM" },
  fork = { "EAGAIN", "ENOMEM" }, vfork = { "EAGAIN", "ENOMEM" }, clone = { "EAGAIN", "ENOMEM" },
  clone3 = { "EAGAIN", "ENOMEM" }, execve = { "ENOMEM", "EACCES", "EIO" }, read = { "EIO", "EINTR" },
  pread64 = { "EIO", "EINTR" }, getdents64 = { "EIO" }, lseek = { "EIO" },
  write = { "EIO", "ENOSPC", "EINTR", "EAGAIN" }, pwrite64 = { "EIO", "ENOSPC" },
  writev = { "EIO", "ENOSPC", "EINTR" }, ftruncate = { "EIO", "ENOSPC" }, close = { "EIO", "EINTR" },
  sendmsg = { "ENOBUFS", "EINTR", "EAGAIN", "EPIPE" }, sendto = { "ENOBUFS", "EINTR", "EAGAIN", "EPIPE" },
  recvmsg = { "ENOMEM", "EINTR" }, recvfrom = { "ENOMEM", "EINTR" }, bind = { "EACCES", "ENOSPC", "EIO" },
  listen = { "EADDRINUSE" }, connect = { "EACCES", "EINTR", "EAGAIN" },
  accept4 = { "EMFILE", "ENOMEM", "EINTR" }, accept = { "EMFILE", "ENOMEM", "EINTR" },
  getsockopt = { "ENOMEM" }, setsockopt = { "ENOMEM" }, getsockname = { "ENOBUFS" },
  shutdown = { "ENOBUFS" }, mkdir = { "EACCES", "ENOSPC", "EIO" }, mkdirat = { "EACCES", "ENOSPC", "EIO" },
  unlink = { "EACCES", "EIO" }, unlinkat = { "EACCES", "EIO" }, rename = FILE, renameat = FILE,
  renameat2 = FILE, linkat = FILE, stat = FILE, lstat = FILE, fstat = { "EIO" }, newfstatat = FILE,
  statx = FILE, readlink = FILE, readlinkat = FILE, access = FILE, faccessat = FILE,
  getcwd = { "ENOMEM", "EACCES" }, chdir = FILE, fchdir = FILE, chmod = { "EPERM", "EIO" },
  fchmod = { "EPERM", "EIO" }, fchmodat = { "EPERM", "EIO" }, fchown = { "EPERM", "EIO" },
  fsync = { "EIO" }, fcntl = { "ENOLCK", "ENOMEM" }, flock = { "ENOLCK", "EINTR" }, ioctl = { "EIO" },
  setsid = { "EPERM" }, setpgid = { "EPERM" }, prctl = { "EPERM" }, prlimit64 = { "EPERM" },
  setpriority = { "EACCES" }, setgroups = { "EPERM", "ENOMEM" }, setresgid = { "EPERM", "EAGAIN" },
  setresuid = { "EPERM", "EAGAIN" }, setgid = { "EPERM" }, setuid = { "EPERM", "EAGAIN" },
  kill = { "EPERM", "ESRCH" }, pidfd_send_signal = { "EPERM", "ESRCH" }, tgkill = { "ESRCH" },
  wait4 = { "EINTR" }, waitid = { "EINTR" }, poll = { "EINTR", "ENOMEM" }, ppoll = { "EINTR", "ENOMEM" },
  select = { "EINTR" }, epoll_ctl = { "ENOMEM", "ENOSPC" }, epoll_wait = { "EINTR" },
  epoll_pwait = { "EINTR" }, clock_nanosleep = { "EINTR" }, close_range = { "ENOMEM", "ENOSYS" },
  mmap = { "ENOMEM" }, mprotect = { "ENOMEM" }, mremap = { "ENOMEM" }, timer_create = { "EAGAIN" },
  timer_settime = { "ENOMEM" }, setitimer = { "EIO" },
}

if support.is_sanitized() then -- the sanitizers give up when their own mmap fails
  ERRORS.mmap, ERRORS.mprotect, ERRORS.mremap = nil, nil, nil
end

-- The cases of one operation, by counting the calls of a run without a fault.
local function count(cases, name, flavour, where)
  local self = soak.trial(INJECT, flavour == "user")
  local ok, problem = pcall(soak.operations[name].run, self, where)
  local report = self.box:read("report") or ""
  self:close()
  if interrupted then
    os.exit(130)
  end
  if not ok or problem then
    io.stderr:write(("soak: %s/%s/%s fails without a fault: %s\n"):format(name, flavour, where, problem))
    os.exit(1)
  end
  local process = math.tointeger(tonumber(where)) or (where == "child" and 1 or 0)
  for number, call, times in report:gmatch("count (%d+) (%S+) (%d+)") do
    if tonumber(number) == process then
      for when = 1, math.min(tonumber(times), CAP) do
        for _, errno in ipairs(ERRORS[call] or {}) do
          cases[#cases + 1] = table.concat({ name, flavour, where, call, when, errno }, "/")
        end
      end
    end
  end
end

-- List all cases.
local function list()
  local cases = {}
  for _, name in ipairs(soak.order) do
    for _, flavour in ipairs(support.is_root and { "plain", "user" } or { "plain" }) do
      for _, where in ipairs(soak.operations[name].where) do
        if flavour == "user" or where ~= "keeper" and where ~= "3" then
          count(cases, name, flavour, where)
        end
      end
    end
  end
  print(table.concat(cases, "\n"))
end

-- Run one case: a problem or nil, and whether its call was made at all.
local function run_case(case)
  local name, flavour, where, call, when, errno = case:match("^(%a+)/(%a+)/(%w+)/([%w_]+)/(%d+)/(%w+)$")
  assert(name and soak.operations[name] and NUMBERS[errno], "there is no case " .. case)
  local fault = { call = call, when = when, number = NUMBERS[errno] }
  local self = soak.trial(INJECT, flavour == "user", fault)
  local ok, problem = pcall(soak.operations[name].run, self, where)
  local hit = self:was_hit()
  local said = self:close()
  if ok and problem == nil then
    problem = said
  end
  return problem and tostring(problem), hit
end

-- Run a share of the cases in a file, until the time is up.
local function run(file, first, step)
  local deadline = tonumber(os.getenv "SOAK_DEADLINE") or math.huge
  local done = io.open(os.getenv "SOAK_DONE" or "/dev/null", "a")
  local cases, failed, missed, index = 0, 0, 0, 0
  for case in io.lines(file) do
    index = index + 1
    if (index - first) % step == 0 then
      if interrupted or os.time() >= deadline then
        break
      end
      local problem, hit = run_case(case)
      cases = cases + 1
      if problem then
        failed = failed + 1
        print(("FAILED  %s: %s"):format(case, (problem:gsub("%s+$", ""):gsub("\n", "\n        "))))
      else
        missed = missed + (hit and 0 or 1)
        done:write(case, "\n"):flush()
      end
      io.stdout:flush()
    end
  end
  print(("counts %d %d %d"):format(cases, failed, missed))
end

local verb, file, first, step = table.unpack(arg)
if verb == "list" then
  list()
else
  run(file, tonumber(first), tonumber(step))
end
