-- Admit hits in sliding windows: check and count in one atomic step, many keys in one call.
--
-- KEYS   one per entry; the same key may stand in several entries, they are served in order.
-- ARGV   [1] entries, packed little-endian, per entry:
--            d  sub_us   width of one sub-window, microseconds (window / 10)
--            I4 limit    hits allowed in any window
--            I4 hits     cost of one request; 0 asks without counting
--            I4 count    how many such requests stand behind this entry; 0 looks without counting
-- reply  one string, packed little-endian, per entry:
--            I4 granted  how many of `count` are admitted, first come first served
--            I4 used     hits counted now, the granted ones included
--            d  reset_us until the oldest counted hit leaves the window, 0 when nothing is counted
--            d  retry_us until one more request of `hits` fits; meaningful when granted < count or count is 0
--            d  slot     number of the sub-window that took the hits, for a refund
--
-- A value is `<d I4 x 11`: number of the newest sub-window, then counts from newest to oldest. Eleven, because
-- any window of ten sub-windows' length touches at most eleven: counting the oldest whole is what makes
-- "never more than the limit in any window" exact (docs/window.md). Time is this server's, so the clocks of
-- the instances do not matter.
local unpack_, pack_, floor = struct.unpack, struct.pack, math.floor
local VALUE, SIZE = '<dI4I4I4I4I4I4I4I4I4I4I4', 52
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local entries, replies, at = ARGV[1], {}, 1

for e = 1, #KEYS do
  local sub, limit, hits, count
  sub, limit, hits, count, at = unpack_('<dI4I4I4', entries, at)
  local index, head, c, used = floor(now / sub), nil, nil, 0
  local value = redis.call('GET', KEYS[e])
  if value and #value == SIZE then
    c = { unpack_(VALUE, value) }
    head = c[1]
    if index > head then
      -- Time went on: shift by as many sub-windows, what falls off the end has left the window.
      local d = index - head
      for j = 12, 2, -1 do
        local from = j - d
        c[j] = from >= 2 and c[from] or 0
      end
      head = index
    elseif head - index > 11 then
      -- The clock was set back by more than a window: a ring from the future must not lock the tenant out.
      c = nil
    end -- set back by less: keep counting in the newest sub-window, which can only be stricter
  end
  if not c then
    head, c = index, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  end
  for j = 2, 12 do used = used + c[j] end

  local granted = count
  if hits > 0 then
    granted = floor((limit - used) / hits)
    if granted > count then granted = count elseif granted < 0 then granted = 0 end
    if granted > 0 then
      used = used + granted * hits
      c[2] = c[2] + granted * hits
      redis.call('SET', KEYS[e], pack_(VALUE, head, c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12]),
        'PX', floor(sub * 11 / 1000) + 1)
    end
  end

  local reset, retry, free, waits = 0, 0, limit - used, granted < count or count == 0
  for j = 12, 2, -1 do
    if c[j] > 0 then
      -- Sub-window head-j+2 stops counting when sub-window head-j+13 begins.
      local leaves = (head - j + 13) * sub - now
      if reset == 0 then reset = leaves end
      if not waits or free >= hits then break end
      free = free + c[j]
      retry = leaves
    end
  end
  if waits and free < hits then retry = sub * 11 end -- costs more than the limit: never fits
  replies[e] = pack_('<I4I4ddd', granted, used, reset, retry, head)
end
return table.concat(replies)
