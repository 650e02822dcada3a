-- A queue of tasks that wait for one another, first come, first served. Used by channels and semaphores.

local core = ...

local Queue = {}
Queue.__index = Queue

-- A new, empty queue.
local function new()
  local queue = setmetatable({}, Queue)
  queue.next, queue.previous = queue, queue -- a ring with the queue itself as its end
  return queue
end

local function unlink(node)
  if node.next then
    node.next.previous, node.previous.next = node.previous, node.next
    node.next, node.previous = false, false
  end
end

local Node = {}

-- If the task continues for another reason than an answer (it was cancelled), it leaves the queue; an
-- answer that it has been given and will not take goes to `refuse`.
function Node.__close(node)
  unlink(node)
  if node.answered and not node.taken then
    node.refuse(node.answer)
  end
end

-- For await: put a node at the end.
local function join(queue, node, done)
  node.done = done
  node.next, node.previous = queue, queue.previous
  node.previous.next, queue.previous = node, node
  return true
end

-- Wait at the end of the queue, with a value for the one who answers; returns true and the answer, or
-- nil, error (which begins with `words`), code after `seconds` (nil: no limit). `refuse` takes an answer that
-- comes too late.
function Queue:wait(value, seconds, refuse, words)
  local node <close> = setmetatable({ -- all of its fields, so that it is made once and does not grow
    value = value, refuse = refuse, done = false, next = false, previous = false, answered = false,
    answer = false, taken = false,
  }, Node)
  if not core.await_for(seconds, join, self, node) and not node.answered then
    return core.timed_out(("%s within %.10g s"):format(words, seconds))
  end
  node.taken = true
  return true, node.answer
end

function Queue:is_empty()
  return self.next == self
end

-- Let the first task of the queue continue with an answer; returns the value that it has waited with.
function Queue:answer(answer)
  local node = self.next
  unlink(node)
  node.answered, node.answer = true, answer
  node.done()
  return node.value
end

return new
