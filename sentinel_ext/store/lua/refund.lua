-- Give hits back to the sub-windows that took them (a cancelled or later refused request).
--
-- KEYS   one per entry.
-- ARGV   [1] entries, packed little-endian, per entry:
--            d  sub_us   width of one sub-window, microseconds
--            d  slot     number of the sub-window, as window.lua replied it
--            I4 hits     what to give back
-- reply  how many entries found something to give back.
--
-- Only the sub-window that took the hits may return them: taken off a newer one, a hit that was really admitted
-- would be forgotten when the older sub-window leaves, and the window would admit more than its limit.
local unpack_, pack_ = struct.unpack, struct.pack
local VALUE, SIZE = '<dI4I4I4I4I4I4I4I4I4I4I4', 52
local at, found = 1, 0

for e = 1, #KEYS do
  local sub, slot, hits
  sub, slot, hits, at = unpack_('<ddI4', ARGV[1], at)
  local value = redis.call('GET', KEYS[e])
  if value and #value == SIZE then
    local c = { unpack_(VALUE, value) }
    local j = c[1] - slot + 2
    if j >= 2 and j <= 12 and c[j] > 0 then
      c[j] = math.max(0, c[j] - hits)
      redis.call('SET', KEYS[e], pack_(VALUE, c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12]), 'KEEPTTL')
      found = found + 1
    end
  end
end
return found
