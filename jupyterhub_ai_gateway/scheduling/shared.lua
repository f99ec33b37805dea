-- One step of a pool that several processes share: what one of them says, done in order, at once.
-- The order of requests is that of fair.py; a test holds the two together.
--
-- KEYS[1]  what all keys of the pool begin with
-- ARGV     the process, the number of its step, its lease and the time in seconds ("" is the server's),
--          what the channels begin with, the pool's name, what is said (JSON)
--
--   :s            the pool: slots, bounds, how far tokens have faded
--   :at :n        the processes: by when they are given up, and their last step
--   :or :ow       how many of theirs run, and wait
--   :part         what those may run who go by their part, until all are back
--   :t:PROCESS    their requests: R or W, priority, tokens, when it began to run or arrived, whose
--   :u            what each path has had: log2 of its tokens, plus the half-lives that had gone by then
--   :w :r         weights of paths that are not 1; how many of theirs run
--   :a0 :a0:PATH  the groups that wait, and below a path its users or sessions, least for its weight first
--   :q0:PATH      the requests of a session that wait, by arrival; :m0:PATH those of a user
--   :since :most  the users who wait: by when they were served last, and by how many of theirs wait
--
-- A 1 in the place of the 0 is for batches. A path is a group, a user below it, or a session below that.

local call, LOG2, SEP, NEVER = redis.call, math.log(2), '\31', -9e15
local root, me, number, lease = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now, channels, pool, says = tonumber(ARGV[4]), ARGV[5], ARGV[6], cjson.decode(ARGV[7])
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

if number <= tonumber(call('HGET', root .. ':n', me) or 0) then
  return cjson.encode({is_stale = true})  -- one that was given up, and came late
end

local FIELDS = {
  'slots', 'least', 'most', 'queue', 'half_life', 'hold', 'turn', 'order', 'faded', 'clock', 'latest',
  'born', 'expected', 'stamp', 'tuned', 'steps'
}
local s, kept = {}, call('HMGET', root .. ':s', unpack(FIELDS))
for i, field in ipairs(FIELDS) do s[field] = tonumber(kept[i]) or 0 end
s.steps = s.steps + 1
if s.hold == 0 then s.hold = USUAL_HOLD_S end

local until_then = tonumber(call('ZSCORE', root .. ':at', me) or 0)
local is_known = s.slots > 0 and until_then > now
if not is_known and says[1][1] ~= 'all' then return cjson.encode({is_known = false}) end

if s.clock > 0 and now > s.clock then s.faded = s.faded + (now - s.clock) / s.half_life end
s.clock = now
if s.latest > now + lease then s.latest = now end  -- the clock was put back

local function total(key)
  local sum = 0
  for _, count in ipairs(call('HVALS', root .. key)) do sum = sum + tonumber(count) end
  return sum
end
local function counted(owner)
  return tonumber(call('HGET', root .. ':or', owner) or 0), tonumber(call('HGET', root .. ':ow', owner) or 0)
end
local in_use, waiting, kept_free
local function recount()
  in_use, waiting, kept_free = total(':or'), total(':ow'), 0
  local parts = call('HGETALL', root .. ':part')
  for i = 1, #parts, 2 do
    kept_free = kept_free + math.max(0, tonumber(parts[i + 1]) - counted(parts[i]))
  end
end
recount()
local function has_room()
  return in_use + kept_free < s.slots
end
local had_room, had_processes = has_room() and waiting == 0, call('ZCARD', root .. ':at')

local news = {}
local function tell(owner, ...)
  news[owner] = news[owner] or {}
  table.insert(news[owner], {...})
end

-- Paths, and what they have had

local function parts(leaf)
  local group, user = string.match(leaf, '^([^\31]*)\31([^\31]*)\31')
  return group, group .. SEP .. user
end
local function below(priority, path)
  return root .. ':a' .. priority .. (path and ':' .. path or '')
end
local function level(path)
  return tonumber(call('ZSCORE', root .. ':u', path) or nil)
end
local function score(path, had)
  if not had then
    s.order = s.order + 1  -- of those that had nothing, whoever came first
    return NEVER + s.order
  end
  return had - math.log(tonumber(call('HGET', root .. ':w', path) or 1)) / LOG2
end
local function rank(path, parent, had)
  for priority = 0, 1 do
    local key = below(priority, parent)
    if call('ZSCORE', key, path) then call('ZADD', key, score(path, had), path) end
  end
end
local function charge(leaf, tokens)
  local group, user = parts(leaf)
  local parent
  for _, path in ipairs({group, user, leaf}) do
    local had = level(path)
    local used = math.max(0, (had and 2 ^ (had - s.faded) or 0) + tokens)
    had = used > 0 and math.log(used) / LOG2 + s.faded or nil
    if had then call('ZADD', root .. ':u', had, path) else call('ZREM', root .. ':u', path) end
    rank(path, parent, had)
    parent = path
  end
end
local function weigh(path, parent, weight)
  if tonumber(call('HGET', root .. ':w', path) or 1) == weight then return end
  if weight == 1 then call('HDEL', root .. ':w', path) else call('HSET', root .. ':w', path, weight) end
  local had = level(path)
  if had then rank(path, parent, had) end
end
local function forget()  -- of those that do nothing, the ones that had least
  for first = 0, 1800, 200 do
    local found = false
    for _, path in ipairs(call('ZRANGE', root .. ':u', first, first + 199)) do
      local user = string.match(path, '^[^\31]*\31[^\31]*')
      if user and call('HEXISTS', root .. ':r', user) == 0 and not call('ZSCORE', root .. ':most', user) then
        call('ZREM', root .. ':u', path)
        call('HDEL', root .. ':w', path)
        found = true
      end
    end
    if found then return end
  end
end

-- Requests

local function ticket(id)
  local owner = string.match(id, '^(.*):')
  local record = owner and call('HGET', root .. ':t:' .. owner, id)
  if not record then return nil end
  local state, priority, tokens, at, leaf = string.match(record, '^(%u) (%d) (%S+) (%S+) (.*)$')
  return {
    id = id, owner = owner, state = state, priority = priority, leaf = leaf,
    tokens = tonumber(tokens), at = tonumber(at)
  }
end
local function keep(t, state, at)
  t.state, t.at = state, at
  local record = string.format('%s %s %.17g %.17g %s', state, t.priority, t.tokens, at, t.leaf)
  call('HSET', root .. ':t:' .. t.owner, t.id, record)
end
local function count(t, by)
  local group, user = parts(t.leaf)
  for _, path in ipairs({group, user, t.leaf}) do
    if call('HINCRBY', root .. ':r', path, by) <= 0 then call('HDEL', root .. ':r', path) end
  end
  call('HINCRBY', root .. ':or', t.owner, by)
  in_use = in_use + by
end
local function start(t)
  keep(t, 'R', now)
  count(t, 1)
  charge(t.leaf, t.tokens)
  local _, user = parts(t.leaf)
  if call('ZSCORE', root .. ':since', user) then call('ZADD', root .. ':since', now, user) end
  if call('ZCARD', root .. ':u') > MAX_NODES then forget() end
end
local function enqueue(t, arrived)
  keep(t, 'W', arrived)
  local group, user = parts(t.leaf)
  local parent
  for _, path in ipairs({group, user, t.leaf}) do
    local key = below(t.priority, parent)
    if not call('ZSCORE', key, path) then call('ZADD', key, score(path, level(path)), path) end
    parent = path
  end
  call('ZADD', root .. ':q' .. t.priority .. ':' .. t.leaf, arrived, t.id)
  call('ZADD', root .. ':m' .. t.priority .. ':' .. user, arrived, t.id)
  call('ZADD', root .. ':since', 'NX', arrived, user)
  call('ZINCRBY', root .. ':most', 1, user)
  call('HINCRBY', root .. ':ow', t.owner, 1)
  waiting = waiting + 1
end
local function dequeue(t)
  local group, user = parts(t.leaf)
  call('ZREM', root .. ':q' .. t.priority .. ':' .. t.leaf, t.id)
  call('ZREM', root .. ':m' .. t.priority .. ':' .. user, t.id)
  if call('EXISTS', root .. ':q' .. t.priority .. ':' .. t.leaf) == 0 then
    call('ZREM', below(t.priority, user), t.leaf)
    if call('EXISTS', below(t.priority, user)) == 0 then
      call('ZREM', below(t.priority, group), user)
      if call('EXISTS', below(t.priority, group)) == 0 then call('ZREM', below(t.priority), group) end
    end
  end
  if tonumber(call('ZINCRBY', root .. ':most', -1, user)) <= 0 then
    call('ZREM', root .. ':most', user)
    call('ZREM', root .. ':since', user)
  end
  call('HINCRBY', root .. ':ow', t.owner, -1)
  waiting = waiting - 1
end
local function finish(t, tokens)
  call('HDEL', root .. ':t:' .. t.owner, t.id)
  if t.state == 'W' then
    dequeue(t)
    return
  end
  count(t, -1)
  s.hold = s.hold + RATE * (math.max(0, now - t.at) - s.hold)
  if tokens then charge(t.leaf, tokens - t.tokens) end
end
local function drop(owner)
  for _, id in ipairs(call('HKEYS', root .. ':t:' .. owner)) do finish(ticket(id)) end
  call('ZREM', root .. ':at', owner)
  for _, key in ipairs({':n', ':or', ':ow', ':part'}) do call('HDEL', root .. key, owner) end
  if call('HGET', root .. ':s', 'by') == owner then s.stamp = 0 end
  recount()
end

-- Whose turn it is

local function first(key)
  return call('ZRANGE', key, 0, 0)[1]
end
local function next_ticket()
  s.turn = (s.turn + 1) % OLDEST_EVERY
  local priority, user
  if s.turn == 0 then
    user = first(root .. ':since')
    if not user then return nil end
    priority = call('EXISTS', below(0, user)) == 1 and 0 or 1
  else
    priority = call('EXISTS', below(0)) == 1 and 0 or 1
    local group = first(below(priority))
    user = group and first(below(priority, group))
    if not user then return nil end
  end
  local leaf = first(below(priority, user))
  local id = leaf and first(root .. ':q' .. priority .. ':' .. leaf)
  return id and ticket(id)
end
local function begin_anew()  -- something was lost, so all processes are to say again what they have
  for priority = 0, 1 do
    for _, group in ipairs(call('ZRANGE', below(priority), 0, -1)) do
      for _, user in ipairs(call('ZRANGE', below(priority, group), 0, -1)) do
        for _, leaf in ipairs(call('ZRANGE', below(priority, user), 0, -1)) do
          call('DEL', root .. ':q' .. priority .. ':' .. leaf)
        end
        call('DEL', below(priority, user), root .. ':m' .. priority .. ':' .. user)
      end
      call('DEL', below(priority, group))
    end
    call('DEL', below(priority))
  end
  for _, key in ipairs({':or', ':ow'}) do
    for _, owner in ipairs(call('HKEYS', root .. key)) do call('DEL', root .. ':t:' .. owner) end
    call('DEL', root .. key)
  end
  call('DEL', root .. ':at', root .. ':part', root .. ':r', root .. ':since', root .. ':most')
  recount()
end
local function fill()
  while waiting > 0 and has_room() do
    local t = next_ticket()
    if not t or t.state ~= 'W' then
      begin_anew()
      return
    end
    dequeue(t)
    start(t)
    tell(t.owner, 'run', t.id)
  end
end
local function place(t)
  local _, user = parts(t.leaf)
  local mine = 1
  for priority = 0, 1 do
    local key = root .. ':m' .. priority .. ':' .. user
    mine = mine + call('ZCOUNT', key, '-inf', t.at)
    if call('ZSCORE', key, t.id) then mine = mine - 1 end
  end
  local all, users = mine, call('ZRANGE', root .. ':most', 0, -1, 'WITHSCORES')
  for i = 1, #users, 2 do
    if users[i] ~= user then all = all + math.min(mine, tonumber(users[i + 1])) end
  end
  return all
end
local function newest_of_longest(own)
  local longest = call('ZREVRANGE', root .. ':most', 0, 0, 'WITHSCORES')
  local user = longest[1]
  if call('ZSCORE', root .. ':most', own) == longest[2] then user = own end
  local id = call('ZREVRANGE', root .. ':m1:' .. user, 0, 0)[1]
  id = id or call('ZREVRANGE', root .. ':m0:' .. user, 0, 0)[1]
  return id and ticket(id)
end

-- What may be said

local function read(id, group, user, session, priority, tokens, group_weight, user_weight)
  local path = group .. SEP .. user
  weigh(group, nil, group_weight)
  weigh(path, group, user_weight)
  return {id = id, owner = me, priority = priority, tokens = tokens, leaf = path .. SEP .. session}
end
local function configure(stamp, slots, most, queue, half_life)
  if stamp < s.stamp then return end  -- what was read last counts, as long as whoever read it is there
  s.stamp = stamp
  call('HSET', root .. ':s', 'by', me)
  s.least, s.most, s.queue, s.half_life = slots, math.max(most, slots), queue, half_life
  s.slots = math.max(s.least, math.min(s.slots, s.most))
end

local step = {}
function step.ask(...)
  local t = read(...)
  s.latest = math.max(now, s.latest + 0.000001)
  if has_room() and waiting == 0 then
    start(t)
    tell(me, 'run', t.id)
    return
  end
  enqueue(t, s.latest)
  if waiting > s.queue then
    local _, user = parts(t.leaf)
    local gone = newest_of_longest(user) or t
    finish(gone)
    tell(gone.owner, 'gone', gone.id, place(gone), waiting)
  end
end
function step.leave(id, tokens)
  local t = ticket(id)
  if t then finish(t, tokens >= 0 and tokens or nil) end
end
function step.late(id)
  local t = ticket(id)
  if t and t.state == 'W' then
    tell(me, 'late', id, place(t), waiting)
    finish(t)
  end
end
function step.config(...)
  configure(...)
end
function step.weigh(paths)
  for _, each in ipairs(paths) do weigh(each[1], each[2] ~= cjson.null and each[2] or nil, each[3]) end
end
function step.tune(inside)
  local tuner = call('HGET', root .. ':s', 'tuner')
  if tuner and tuner ~= me and now < s.tuned + TUNER_S then return end
  call('HSET', root .. ':s', 'tuner', me)
  s.tuned = now
  local by = math.max(1, math.floor(s.slots / 8))
  if inside > 0 then
    s.slots = math.max(s.least, s.slots - by)
  elseif in_use >= s.slots then
    s.slots = math.min(s.most, s.slots + by)
  end
end
function step.all(tickets, expected, config, part)
  if not is_known then
    drop(me)
    if call('EXISTS', root .. ':at') == 0 then s.born, s.expected = now, expected end
    for _, key in ipairs({':s', ':u', ':w'}) do call('PERSIST', root .. key) end
    call('ZADD', root .. ':at', now + lease, me)
    call('HSET', root .. ':n', me, number)
  end
  configure(unpack(config))
  local listed = {}
  for _, each in ipairs(tickets) do
    local state, age, t = each[1], each[2], read(unpack(each, 3))
    local known = ticket(t.id)
    listed[t.id] = true
    if not known and state == 'R' then
      t.tokens = 0  -- it was charged, or will be by what it used
      keep(t, 'R', now - age)
      count(t, 1)
    elseif not known then
      enqueue(t, now - age)
    elseif known.state == 'W' and state == 'R' then
      dequeue(known)
      start(known)
    elseif known.state == 'R' and state == 'W' then
      tell(me, 'run', t.id)
    end
  end
  local run, wait = 0, 0
  for _, id in ipairs(call('HKEYS', root .. ':t:' .. me)) do
    local t = ticket(id)
    if not listed[id] then
      finish(t)
    elseif t.state == 'R' then
      run = run + 1
    else
      wait = wait + 1
    end
  end
  local running, queued = counted(me)
  if part > 0 then call('HSET', root .. ':part', me, part) else call('HDEL', root .. ':part', me) end
  recount()
  if running ~= run or queued ~= wait then begin_anew() end
end
function step.bye()
  drop(me)
  if call('EXISTS', root .. ':at') == 0 then
    for _, key in ipairs({':s', ':u', ':w'}) do call('EXPIRE', root .. key, KEPT_S) end
  end
end

for _, owner in ipairs(call('ZRANGEBYSCORE', root .. ':at', '-inf', now)) do drop(owner) end
call('HSET', root .. ':n', me, number)
if is_known then call('ZADD', root .. ':at', now + lease, me) end
fill()
for _, said in ipairs(says) do
  step[said[1]](unpack(said, 2))
  fill()
end

local values = {}
for _, field in ipairs(FIELDS) do
  values[#values + 1] = field
  values[#values + 1] = s[field]
end
call('HSET', root .. ':s', unpack(values))

local processes = call('ZCARD', root .. ':at')
local function numbers(of)
  return {
    pool = pool, step = s.steps, slots = s.slots, in_use = in_use, waiting = waiting,
    processes = processes, hold_s = s.hold, news = of
  }
end
for owner, of in pairs(news) do
  if owner ~= me then call('PUBLISH', channels .. ':' .. owner, cjson.encode(numbers(of))) end
end
if (has_room() and waiting == 0) ~= had_room or processes ~= had_processes then
  call('PUBLISH', channels, cjson.encode(numbers()))
end
local answer = numbers(news[me])
answer.is_known = true
answer.is_whole = processes >= s.expected or now >= s.born + lease
answer.mine = call('HLEN', root .. ':t:' .. me)
answer.running, answer.queued = counted(me)
return cjson.encode(answer)
