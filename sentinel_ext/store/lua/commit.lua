-- Make a state the shared one, if nobody else made one meanwhile.
--
-- KEYS   [1] the hash that load.lua's KEYS[2] is
-- ARGV   [1] version it was made from   [2] when it was made, milliseconds   [3] the state
-- reply  1 if it is the shared one now
local version = tonumber(redis.call('HGET', KEYS[1], 'v')) or 0
if version ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'v', version + 1, 'at', ARGV[2], 's', ARGV[3], 'turn', 0)
redis.call('PEXPIRE', KEYS[1], 600000)
return 1
