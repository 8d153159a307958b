-- Give hits back to the windows and sub-windows that counted them (docs/limits.md).
--
-- KEYS   one per entry.
-- ARGV   [1] entries, packed little-endian, per entry:
--            B  kind     0 fixed window, 1 sliding window, 2 GCRA
--            d  window   microseconds
--            d  limit    GCRA: hits per window
--            d  slot     number of the window or sub-window, as limits.lua replied it
--            d  hits     what to give back
-- reply  how many entries found something to give back.
--
-- Only where they were counted: taken off a newer sub-window, a hit that was really admitted would be
-- forgotten when the older one leaves.
local unpack_, pack_, max = struct.unpack, struct.pack, math.max
local RING = '<' .. string.rep('d', 12)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at, found = 1, 0

for e = 1, #KEYS do
  local kind, window, limit, slot, hits
  kind, window, limit, slot, hits, at = unpack_('<Bdddd', ARGV[1], at)
  local value, changed = redis.pcall('GET', KEYS[e]), nil
  if type(value) ~= 'string' then value = nil end
  if value and kind == 0 and #value == 16 then
    local head, count = unpack_('<dd', value)
    if head == slot and count > 0 then changed = pack_('<dd', head, max(0, count - hits)) end
  elseif value and kind == 1 and #value == 96 then
    local c = { unpack_(RING, value) }
    local j = c[1] - slot + 2
    if j >= 2 and j <= 12 and c[j] > 0 then
      c[j] = max(0, c[j] - hits)
      changed = pack_(RING, unpack(c, 1, 12))
    end
  elseif value and kind == 2 and #value == 16 and limit > 0 then
    local base, ahead = unpack_('<dd', value)
    ahead = base - now <= window and ahead - (now - base) or 0
    if ahead > 0 then changed = pack_('<dd', now, max(0, ahead - hits * window / limit)) end
  end
  if changed then
    redis.call('SET', KEYS[e], changed, 'KEEPTTL')
    found = found + 1
  end
end
return found
