-- Decide rate limit requests: check and count all counters of each in one atomic step, many requests in a call.
--
-- KEYS   the counters, each once.
-- ARGV   [1] requests, packed little-endian, served in order; per request:
--            I2 n         counters of the request; per counter:
--            I2 place     of its key in KEYS, from 0
--            B  kind      0 fixed window, 1 sliding window, 2 GCRA
--            B  flags     1 binding: over refuses the request; 2 quota: over on all of these refuses it;
--                         4 count denied: the hits count even when the request is refused
--                         8 look: answer as if, and write nothing; all requests of a call look, or none
--            d  window    microseconds
--            d  limit     hits per window
--            d  burst     GCRA: the most hits at once
--            d  hits      cost; 0 looks, negative gives back
--            I4 lease     hits wanted ahead
--            I4 divisor   at most this part of what is free is leased
-- reply  one string, packed little-endian, per counter:
--            B  bits      1 over, 2 counted
--            i8 used      counted after the request, its lease included
--            i8 reset     microseconds until the window ends, the oldest hit leaves, nothing is in use
--            i8 retry     over: microseconds until the hits fit
--            i8 leased    hits taken ahead
--            i8 fresh     microseconds for which they may be spent
--            i8 slot      number of the window or sub-window that counted
--
-- Values: fixed `<dd` window's number, count; sliding `<d d x 11` number of the newest sub-window, counts from
-- newest to oldest, as window.lua keeps them; GCRA `<dd` a time, and how far the theoretical arrival time was ahead
-- of it, both microseconds. Time is this server's.
-- A state is read once and written once in a call, however many requests ask for it.
local unpack_, pack_, floor, min, max, ceil = struct.unpack, struct.pack, math.floor, math.min, math.max, math.ceil
local ENTRY, REPLY, RING = '<I2BBddddI4I4', '<Bi8i8i8i8i8i8', '<' .. string.rep('d', 12)
local FIXED, SLIDING, GCRA = 0, 1, 2
local BINDING, QUOTA, COUNT_DENIED, LOOK = 1, 2, 4, 8
-- Above it a double would forget single hits.
local MAX_COUNT = 9007199254740992
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local states = {}

local function fixed(s, value)
  s.index = floor(now / s.window)
  s.head, s.used = s.index, 0
  if value and #value == 16 then
    local head, count = unpack_('<dd', value)
    -- A clock set back by less than a window goes on counting in the newest one, which can only be stricter.
    if head == s.index or head == s.index + 1 then s.head, s.used = head, count end
  end
end

local function sliding(s, value)
  s.sub = floor(s.window / 10)
  s.index = floor(now / s.sub)
  s.head, s.used = s.index, 0
  if value and #value == 96 then
    local c = { unpack_(RING, value) }
    local d = s.index - c[1]
    if d > 0 then
      for j = 12, 2, -1 do c[j] = j - d >= 2 and c[j - d] or 0 end
      s.c = c
    elseif d >= -11 then
      s.head, s.c = c[1], c
    end
  end
  s.c = s.c or { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  for j = 2, 12 do s.used = s.used + s.c[j] end
end

-- How far the theoretical arrival time is ahead of now: a date of today in microseconds would leave a double only
-- quarters of one, a quarter of a hit at a million hits a second.
local function gcra(s, value)
  s.head, s.ahead = 0, 0
  if value and #value == 16 then
    local base, ahead = unpack_('<dd', value)
    -- A clock set back by less than a window is only stricter; a counter of a later future counts as none.
    if base - now <= s.window then s.ahead = max(0, ahead - (now - base)) end
  end
end

local loaders = { [FIXED] = fixed, [SLIDING] = sliding, [GCRA] = gcra }

local function state(place, kind, window)
  local s = states[place]
  if not s then
    s = { kind = kind, window = window }
    -- Somebody else's value of another type counts as none, and is replaced.
    local value = redis.pcall('GET', KEYS[place + 1])
    loaders[kind](s, type(value) == 'string' and value or nil)
    states[place] = s
  end
  return s
end

local function is_over(s, e)
  local hits = e.hits
  if hits < 0 then return false end
  if s.kind == GCRA then
    if e.limit == 0 then return hits > 0 end
    -- A millionth of a hit for the rounding of doubles.
    return s.ahead * e.limit / s.window + hits > e.burst + 0.000001
  end
  if hits == 0 then return s.used > e.limit end
  return s.used + hits > e.limit
end

local function add(s, e, hits)
  s.dirty = not e.looks
  if s.kind == GCRA then
    s.ahead = max(0, s.ahead + hits * s.window / e.limit)
  elseif hits >= 0 then
    s.used = min(MAX_COUNT, s.used + hits)
    if s.c then s.c[2] = min(MAX_COUNT, s.c[2] + hits) end
  elseif s.c then
    -- From the oldest on: taken off the newest, a hit that was really admitted would be forgotten when the
    -- older one leaves.
    local back = min(-hits, s.used)
    s.used = s.used - back
    for j = 12, 2, -1 do
      local part = min(back, s.c[j])
      s.c[j], back = s.c[j] - part, back - part
    end
  else
    s.used = max(0, s.used + hits)
  end
end

local function lease(s, e)
  if e.lease == 0 or s.kind == GCRA or s.head ~= s.index then return 0, 0 end
  local leased = min(e.lease, floor((e.limit - s.used) / e.divisor))
  if leased <= 0 then return 0, 0 end
  add(s, e, leased)
  return leased, (s.head + 1) * (s.sub or s.window) - now
end

local function waits(s, e, over)
  if s.kind == FIXED then
    local reset = (s.head + 1) * s.window - now
    return s.used, reset, over and reset or 0
  end
  if s.kind == GCRA then
    local each = e.limit > 0 and s.window / e.limit or s.window
    local used = ceil(s.ahead / each - 0.000001)
    local retry = 0
    if over then retry = e.hits > e.burst and s.window or s.ahead + (e.hits - e.burst) * each end
    return used, ceil(s.ahead), ceil(max(0, retry))
  end
  local reset, retry, free = 0, 0, e.limit - s.used
  for j = 12, 2, -1 do
    if s.c[j] > 0 then
      local leaves = (s.head - j + 13) * s.sub - now
      if reset == 0 then reset = leaves end
      if not over or free >= e.hits then break end
      free, retry = free + s.c[j], leaves
    end
  end
  if over and free < e.hits then retry = s.sub * 11 end
  return s.used, reset, retry
end

local packed, at, size, replies, filled = ARGV[1], 1, #ARGV[1], {}, 0
local entries = {}
while at <= size do
  local n
  n, at = unpack_('<I2', packed, at)
  local refused, quotas, quotas_over = false, 0, 0
  for j = 1, n do
    local e = entries[j] or {}
    entries[j] = e
    local place, kind, flags, window
    place, kind, flags, window, e.limit, e.burst, e.hits, e.lease, e.divisor, at = unpack_(ENTRY, packed, at)
    e.looks = flags >= LOOK
    flags = flags % LOOK
    e.counts_denied = flags >= COUNT_DENIED
    e.state = state(place, kind, window)
    local over = is_over(e.state, e)
    flags = flags % COUNT_DENIED
    if flags == BINDING then
      refused = refused or over
    elseif flags == QUOTA then
      quotas = quotas + 1
      if over then quotas_over = quotas_over + 1 end
    end
  end
  refused = refused or (quotas > 0 and quotas == quotas_over)
  for j = 1, n do
    local e = entries[j]
    local s, hits = e.state, e.hits
    -- Once more: an earlier counter of this request may have been the same one.
    local over, bits = is_over(s, e), 0
    if hits < 0 or (hits > 0 and (e.counts_denied or not (refused or over))) then
      if s.kind ~= GCRA or e.limit > 0 then
        add(s, e, hits)
        bits = 2
      end
    end
    local leased, fresh = 0, 0
    if over then bits = bits + 1 else leased, fresh = lease(s, e) end
    local used, reset, retry = waits(s, e, over)
    filled = filled + 1
    replies[filled] = pack_(REPLY, bits, used, reset, retry, leased, fresh, s.head)
  end
end

for place, s in pairs(states) do
  if s.dirty then
    local key = KEYS[place + 1]
    if s.kind == FIXED then
      redis.call('SET', key, pack_('<dd', s.head, s.used), 'PX', ceil(((s.head + 1) * s.window - now) / 1000) + 1000)
    elseif s.kind == SLIDING then
      local c = s.c
      redis.call('SET', key, pack_(RING, s.head, c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12]),
        'PX', floor(s.sub * 11 / 1000) + 1)
    else
      redis.call('SET', key, pack_('<dd', now, s.ahead), 'PX', ceil(s.ahead / 1000) + 1)
    end
  end
end
return table.concat(replies)
