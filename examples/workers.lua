-- A web server on all cores.
--
--   lunad start --workers auto examples/workers.lua     then: curl http://127.0.0.1:8080/
--   curl -d "back at noon" http://127.0.0.1:8080/note   one worker takes it, and all know it
--   lunad reload workers                                all have the new code, or none
--   lunad status workers-2                              one of them; without -2 all
--
-- Each worker runs this script, in a process of its own. The kernel gives each client to one of them. One
-- that crashes is started again, and the clients that came to it meanwhile wait for it.

local lunad = require "lunad"
local http = require "lunad.http"

-- A worker has only its own variables: what all are to know is sent to the others.
local board = lunad.keep("board", { note = "nothing", number = 0, worker = 0 })

-- The later note is kept, and of two at once that of the higher worker.
lunad.on_message("note", function(new)
  if new.number > board.number or (new.number == board.number and new.worker > board.worker) then
    board.note, board.number, board.worker = new.note, new.number, new.worker
  end
end)

-- One that has crashed has lost its board, and asks the others.
lunad.on_message("what is the note?", function(_, worker)
  lunad.send(worker, "note", board)
end)
if board.number == 0 then
  lunad.broadcast("what is the note?")
end

-- What is to happen once is done by the first.
if lunad.worker == 1 then
  lunad.cron("0 * * * *", function()
    lunad.log.info("the note of this hour", { note = board.note })
  end)
end

assert(http.serve(os.getenv "HTTP_ADDRESS" or "127.0.0.1:8080", function(request)
  if request.path == "/" then
    return 200, ("worker %d of %d\n"):format(lunad.worker, lunad.workers)
  elseif request.path ~= "/note" then
    return 404, "there is nothing here\n"
  elseif request.method == "POST" then
    board.note, board.number, board.worker = request.body, board.number + 1, lunad.worker
    lunad.broadcast("note", board)
  end
  return 200, board.note .. "\n"
end))
