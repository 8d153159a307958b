-- Name instances that are alive, for people: see presence.lua, which also removes those that are not.
--
-- KEYS   [1] sorted set: instance id -> time of its last sign of life.
-- ARGV   [1] how many at most
-- reply  their ids.
return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)
