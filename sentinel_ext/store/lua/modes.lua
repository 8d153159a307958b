-- The modes of stages that an operator set for all instances.
--
-- KEYS   [1] hash: stage -> mode. It stays until it is changed.
-- ARGV   none to read; or [1] stage   [2] mode, "" to forget it
-- reply  the hash afterwards, as HGETALL gives it.
if ARGV[1] then
  if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  end
end
return redis.call('HGETALL', KEYS[1])
