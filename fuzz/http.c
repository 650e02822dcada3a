/* HTTP of lunad's own Lua: what is accepted has the form that a script may rely on, and a message means the
 * same however it is cut into pieces. */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "api/embedded.h"
#include "fuzz.h"

/* Makes the function that is called with an input: check(kind, step, text). `files` has lunad's own Lua. */
static const char driver[] =
    "local files = ...\n"
    "local core, loaded = {}, {}\n"
    "function core.load(name)\n"
    "  loaded[name] = loaded[name] or assert(load(files[name], '=' .. name, 't'))(core)\n"
    "  return loaded[name]\n"
    "end\n"
    "local head, new_body = core.load 'http_head.lua', core.load 'http_body.lua'\n"
    "local urls, target = core.load 'http_url.lua', core.load 'http_target.lua'\n"
    "local statuses = { [400] = true, [413] = true, [414] = true, [431] = true, [501] = true, "
    "[505] = true }\n"
    "local function check_fields(fields)\n"
    "  for name, value in pairs(fields) do\n"
    "    assert(name:find '^[!#$%%&\\'*+%-.^_`|~0-9a-z]+$', name)\n"
    "    assert(not value:find(name == 'set-cookie' and '[^\\t\\n -~\\x80-\\xFF]' or '[^\\t "
    "-~\\x80-\\xFF]'))\n"
    "    assert(not value:find '^[ \\t]' and not value:find '[ \\t]$')\n"
    "  end\n"
    "  assert(not (fields['content-length'] and fields['transfer-encoding']))\n"
    "end\n"
    "local function check_request(request, length)\n"
    "  check_fields(request.headers)\n"
    "  assert(request.method:find '^[!#$%%&\\'*+%-.^_`|~0-9A-Za-z]+$')\n"
    "  assert(request.target:find '^[!-~]+$')\n"
    "  assert(request.path == '*' or request.path:find '^/')\n"
    "  assert(not (request.path .. '/'):find('/%.%.?/') and not request.path:find '%z')\n"
    "  assert(request.version == '1.0' or request.version == '1.1' and request.headers.host)\n"
    "  assert(length == 'chunked' or math.type(length) == 'integer' and length >= 0)\n"
    "end\n"
    "-- All messages of a text that comes in pieces of `step` bytes: a list of what they are, and "
    "how it ends.\n"
    "local function read(text, step, parse, check)\n"
    "  local stream, at, found, sent = { buffer = '' }, 1, {}, 0\n"
    "  local function wait()\n"
    "    if sent == #text then return nil end\n"
    "    stream.buffer = stream.buffer .. text:sub(sent + 1, sent + step)\n"
    "    sent = math.min(sent + step, #text)\n"
    "    return true\n"
    "  end\n"
    "  local searched = 1\n"
    "  while true do\n"
    "    local stop, from, status = head.find_end(stream.buffer, 1, searched, 300)\n"
    "    if stop then\n"
    "      local message, length, keep = parse(stream.buffer, 1, stop)\n"
    "      if not message then\n"
    "        assert(statuses[length] and type(keep) == 'string')\n"
    "        return found, 'error'\n"
    "      end\n"
    "      assert(type(keep) == 'boolean')\n"
    "      check(message, length)\n"
    "      stream.buffer, searched = stream.buffer:sub(stop + 2), 1\n"
    "      local body = new_body(stream, length, 200, wait)\n"
    "      if math.type(length) == 'integer' and length > 200 then return found, 'error' end\n"
    "      local data, words, code = body:read_all()\n"
    "      found[#found + 1] = (message.method or message.status) .. (data or '')\n"
    "      if not data then\n"
    "        assert(type(words) == 'string' and (code == 'EPIPE' or statuses[code]))\n"
    "        return found, code == 'EPIPE' and 'cut' or 'error'\n"
    "      end\n"
    "      assert(#data <= 200 and (length == 'chunked' or length == false or length == #data))\n"
    "    elseif status then\n"
    "      assert(statuses[status])\n"
    "      return found, 'error'\n"
    "    else\n"
    "      searched = from\n"
    "      if not wait() then return found, stream.buffer == '' and 'end' or 'cut' end\n"
    "    end\n"
    "  end\n"
    "end\n"
    "local function compare(text, step, parse, check)\n"
    "  local whole, how = read(text, #text, parse, check)\n"
    "  local cut, cut_how = read(text, step, parse, check)\n"
    "  assert(how == cut_how, how .. ' ' .. cut_how)\n"
    "  assert(table.concat(whole, '\\n') == table.concat(cut, '\\n'))\n"
    "end\n"
    "local kinds = {\n"
    "  [0] = function(text, step) compare(text, step, head.parse_request, check_request) end,\n"
    "  function(text, step)\n"
    "    compare(text, step, head.parse_response, function(response)\n"
    "      check_fields(response.headers)\n"
    "      assert(response.status >= 0 and response.status <= 999)\n"
    "    end)\n"
    "  end,\n"
    "  function(text)\n"
    "    local first, second = text:match '^([^\\n]*)\\n?(.*)$'\n"
    "    local url = urls.parse(first)\n"
    "    url = url and (urls.resolve(url, second) or url)\n"
    "    if url then\n"
    "      assert(url.target:find '^/[!-~]*$', url.target)\n"
    "      assert(url.port >= 0 and url.port <= 65535 and not url.name:find '[^%w%-._~%[%]:]')\n"
    "      assert(assert(urls.parse(url.text)).text == url.text)\n"
    "    end\n"
    "    target.parse_query(second)\n"
    "    assert(target.parse_query('x=' .. target.encode(second)).x == second)\n"
    "  end,\n"
    "}\n"
    "return function(kind, step, text) kinds[kind % 3](text, step + 1) end\n";

/* Make the state with the function on its stack. */
static lua_State *make_state(void) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    FUZZ_CHECK(luaL_loadstring(L, driver) == LUA_OK);
    lua_newtable(L);
    for (const struct ld_embedded *file = ld_embedded; file->name != NULL; file++) {
        lua_pushlstring(L, file->text, file->size);
        lua_setfield(L, -2, file->name);
    }
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lua_State *L;
    if (L == NULL) {
        L = make_state();
    }
    struct fuzz_input input = {data, size};
    lua_pushvalue(L, 1);
    lua_pushinteger(L, fuzz_byte(&input));
    lua_pushinteger(L, fuzz_byte(&input));
    lua_pushlstring(L, (const char *)input.at, input.left);
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    FUZZ_CHECK(lua_gettop(L) == 1);
    return 0;
}
