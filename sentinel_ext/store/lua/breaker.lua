-- The circuit breakers all instances share: many operations on many upstreams in one atomic step.
--
-- KEYS   three per entry: [1] the breaker  [2] sorted set of its permits: id -> when it is lost
--        [3] the newest batch of the reporting instance that was counted (used by `rep` alone)
-- ARGV   [1] msgpack array of entries, served in order, each an array:
--          1 operation   2 failure threshold   3 consecutive failures   4 min requests   5 slot ms
--          6 cooldown ms   7 half-open max   8 successes needed   9 probe ttl ms   10 slow rate, 0 for none
--          11 life ms: how long a breaker is kept that nobody asks
--        then, by operation:
--          rep   12 epoch  13 serial  14 ok  15 failed  16 slow  17 lead  18 trail  19 longest
--          acq   12 permit
--          res   12 epoch  13 permit  14 ok (1 or 0)
--          rel   12 permit
--          force 12 mode (0 auto, 1 open, 2 closed)
-- reply  one string, packed little-endian, per entry as in REPLY below: did it do what it was asked, then the view.
--
-- core/breaker.py is the same machine in Python and says what each step is for. Commands: TIME GET SET ZADD ZREM
-- ZCARD ZREMRANGEBYSCORE PEXPIRE. A breaker is one packed string: one GET, and one SET when something changed, or
-- once a second so that the key lives as long as it is asked. A forced breaker has no expiry: it stands until changed.
local unpack_, pack_, floor, min, max = struct.unpack, struct.pack, math.floor, math.min, math.max
local VALUE, SIZE = '<BBBBddddddI4I4I4' .. string.rep('I4', 30), 184
local REPLY = '<BBBBBddI4I4ddd'
-- Places in the value. The ring holds ok, failed, slow of the newest slot first.
local STATE, FORCE, REASON, LEVEL, EPOCH, FLOOR, OFFSET, UNTIL, SLOT, HEAD, RUN, USED, SUCCESSES = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
local RING, SLOTS = 13, 10
local CLOSED, OPEN, HALF_OPEN = 0, 1, 2
local AUTO = 0
local FAILURE_RATE, CONSECUTIVE, SLOW_CALLS, PROBE_FAILED, PROBE_LOST, FORCED = 1, 2, 3, 4, 5, 6
local MAX_LEVEL, MAX_COUNT, LOCAL_EPOCHS, CLOCK_STEP_MS, MARK_MS = 4, 4294967295, 1099511627776, 1000, 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)

local function move(c, state, permits)
  redis.call('ZREMRANGEBYSCORE', permits, '-inf', '+inf')
  c[STATE], c[EPOCH] = state, c[EPOCH] + 1
  for j = RUN, RING + 3 * SLOTS do c[j] = 0 end
end

local function open(c, o, permits, reason, level, at)
  c[REASON], c[LEVEL] = reason, min(level, MAX_LEVEL)
  move(c, OPEN, permits)
  local base = o[6] * 2 ^ c[LEVEL]
  -- Up to 10 % more, by epoch: the same for whoever asks.
  c[UNTIL] = at + base + floor(base * (c[EPOCH] % 1009 * 389 % 101) / 1000)
end

local function close_if_healed(c, o, permits)
  if c[SUCCESSES] >= max(1, min(o[8], o[7])) then
    c[LEVEL] = 0
    move(c, CLOSED, permits)
  end
end

-- The logical time, which goes on when the server's clock is set back; does what time alone does.
local function advance(c, o, permits)
  local at = now + c[OFFSET]
  if at < c[FLOOR] then
    c[OFFSET] = c[OFFSET] + c[FLOOR] - at
    at = c[FLOOR]
  elseif at >= c[FLOOR] + CLOCK_STEP_MS then
    c[FLOOR] = at
  end
  if c[STATE] == OPEN then
    if c[FORCE] == AUTO and at >= c[UNTIL] then move(c, HALF_OPEN, permits) end
  elseif c[STATE] == HALF_OPEN then
    -- A permit is lost when its time is over, and when Redis dropped it to make room.
    if redis.call('ZREMRANGEBYSCORE', permits, '-inf', at) > 0
      or redis.call('ZCARD', permits) < c[USED] - c[SUCCESSES] then
      open(c, o, permits, PROBE_LOST, c[LEVEL] + 1, at)
    else
      close_if_healed(c, o, permits)
    end
  end
  return at
end

local function sums(c, at)
  local ok, failed, slow = 0, 0, 0
  if c[SLOT] > 0 then
    local kept = SLOTS - max(0, floor(at / c[SLOT]) - c[HEAD])
    for j = RING + 1, RING + 3 * kept, 3 do
      ok, failed, slow = ok + c[j], failed + c[j + 1], slow + c[j + 2]
    end
  end
  return ok, failed, slow
end

local function count(c, o, at)
  local ok, failed, slow, lead, trail, longest = o[14], o[15], o[16], o[17], o[18], o[19]
  local index = floor(at / o[5])
  if c[SLOT] ~= o[5] then
    for j = RING + 1, RING + 3 * SLOTS do c[j] = 0 end
    c[SLOT], c[HEAD] = o[5], index
  end
  local d = 3 * min(SLOTS, index - c[HEAD])
  if d > 0 then
    for j = RING + 3 * SLOTS, RING + 1, -1 do c[j] = j - d > RING and c[j - d] or 0 end
    c[HEAD] = index
  end
  c[RING + 1] = min(MAX_COUNT, c[RING + 1] + ok)
  c[RING + 2] = min(MAX_COUNT, c[RING + 2] + failed)
  c[RING + 3] = min(MAX_COUNT, c[RING + 3] + slow)
  local before = c[RUN]
  c[RUN] = min(MAX_COUNT, ok > 0 and trail or before + failed)
  if max(before + lead, longest, c[RUN]) >= o[3] then return CONSECUTIVE end
  ok, failed, slow = sums(c, at)
  local n = ok + failed
  if n < o[4] or n == 0 then return nil end
  if failed / n >= o[2] then return FAILURE_RATE end
  if o[10] > 0 and slow / n >= o[10] then return SLOW_CALLS end
  return nil
end

local operations = {}

function operations.rep(c, o, permits, mark, at)
  local epoch, serial = o[12], o[13]
  -- Somebody saw what this breaker has forgotten (writes were lost): never use an epoch twice.
  if epoch > c[EPOCH] and epoch < LOCAL_EPOCHS then c[EPOCH] = epoch + 1 end
  if c[STATE] ~= CLOSED or epoch ~= c[EPOCH] then return false end
  if o[14] + o[15] == 0 then return true end
  if serial > 0 then
    local newest = redis.call('GET', mark)
    if newest and tonumber(newest) >= serial then return true end
    redis.call('SET', mark, string.format('%.0f', serial), 'PX', MARK_MS)
  end
  local reason = count(c, o, at)
  if reason and c[FORCE] == AUTO then open(c, o, permits, reason, 0, at) end
  return true
end

function operations.acq(c, o, permits, _, at)
  if c[STATE] ~= HALF_OPEN then return c[STATE] == CLOSED end
  if redis.call('ZADD', permits, 'NX', at + o[9], o[12]) == 0 then return true end -- asked before
  if c[USED] < o[7] then
    c[USED] = c[USED] + 1
    redis.call('PEXPIRE', permits, o[11])
    return true
  end
  redis.call('ZREM', permits, o[12])
  return false
end

function operations.res(c, o, permits, _, at)
  if c[STATE] ~= HALF_OPEN or o[12] ~= c[EPOCH] or redis.call('ZREM', permits, o[13]) == 0 then return false end
  if o[14] == 1 then
    c[SUCCESSES] = c[SUCCESSES] + 1
    close_if_healed(c, o, permits)
  else
    open(c, o, permits, PROBE_FAILED, c[LEVEL] + 1, at)
  end
  return true
end

function operations.rel(c, o, permits)
  if c[STATE] ~= HALF_OPEN or redis.call('ZREM', permits, o[12]) == 0 then return false end
  c[USED] = c[USED] - 1
  return true
end

function operations.force(c, o, permits, _, at)
  local mode = o[12]
  if mode ~= AUTO and mode == c[FORCE] then return false end
  c[FORCE] = mode
  if mode == OPEN then
    open(c, o, permits, FORCED, 0, at)
  else
    c[LEVEL], c[REASON] = 0, 0
    move(c, CLOSED, permits)
  end
  return true
end

local replies = {}
for e, o in ipairs(cmsgpack.unpack(ARGV[1])) do
  local key, permits, mark = KEYS[3 * e - 2], KEYS[3 * e - 1], KEYS[3 * e]
  local value, c = redis.call('GET', key), {}
  if value and #value == SIZE then
    c = { unpack_(VALUE, value) }
  else
    for j = 1, RING + 3 * SLOTS do c[j] = 0 end
  end
  local at = advance(c, o, permits)
  local done = operations[o[1]](c, o, permits, mark, at)
  local packed = pack_(VALUE, unpack(c, 1, RING + 3 * SLOTS))
  if packed ~= value then
    if c[FORCE] == AUTO then
      redis.call('SET', key, packed, 'PX', o[11])
    else
      redis.call('SET', key, packed)
    end
  end
  local retry = 0
  if c[STATE] == OPEN then retry = c[FORCE] == AUTO and c[UNTIL] - at or o[6] end
  replies[e] = pack_(REPLY, done and 1 or 0, c[STATE], c[FORCE], c[REASON], c[LEVEL], c[EPOCH], retry, c[USED], c[RUN], sums(c, at))
end
return table.concat(replies)
