-- Count the instances that are alive: each refreshes its own mark, marks older than the lease do not count.
--
-- KEYS   [1] sorted set: instance id -> time of its last sign of life, milliseconds.
-- ARGV   [1] instance id   [2] lease, milliseconds   [3] "leave" to sign off, "" to stay
-- reply  how many are alive, this one included unless it leaves.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if ARGV[3] == 'leave' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return redis.call('ZCARD', KEYS[1])
