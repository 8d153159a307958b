-- One instance reports on one upstream, and learns what all know: reports in, shared state and mail out.
--
-- KEYS   [1] hash: instance -> time of its report (8 bytes, milliseconds) and the report
--        [2] hash: v version, at when it was made (milliseconds), s the shared state, turn until when somebody
--            makes the next
--        [3] list: mail for this instance   [4..] lists: mail for others, one for each of ARGV[7..]
-- ARGV   [1] instance   [2] report, "" to leave   [3] milliseconds after which a report is old
--        [4] milliseconds between two states   [5] milliseconds one has to make a state
--        [6] how many pieces of mail a list may hold   [7..] mail
-- reply  { now in milliseconds as text, version, shared state or "", 1 if it is this instance's turn,
--          { reports, only if it is its turn }, { mail } }
--
-- The law runs in the instances (core/law.py); here it is only seen to that one of them runs it at a time: who
-- finds the state due gets the turn for a moment, and commits with commit.lua.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, report = ARGV[1], ARGV[2]
local old, due = tonumber(ARGV[3]), tonumber(ARGV[4])

if report == '' then
  redis.call('HDEL', KEYS[1], me)
else
  redis.call('HSET', KEYS[1], me, struct.pack('<d', now) .. report)
  redis.call('PEXPIRE', KEYS[1], old * 2)
end

for i = 4, #KEYS do
  redis.call('RPUSH', KEYS[i], ARGV[i + 3])
  redis.call('LTRIM', KEYS[i], -ARGV[6], -1)
  redis.call('PEXPIRE', KEYS[i], old)
end
local mail = redis.call('LRANGE', KEYS[3], 0, -1)
if #mail > 0 then redis.call('DEL', KEYS[3]) end

local state = redis.call('HMGET', KEYS[2], 'v', 'at', 's', 'turn')
local turn, reports = 0, {}
if report ~= '' and now - (tonumber(state[2]) or 0) >= due and now >= (tonumber(state[4]) or 0) then
  turn = 1
  redis.call('HSET', KEYS[2], 'turn', now + ARGV[5])
  redis.call('PEXPIRE', KEYS[2], 600000)
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local at = #all[i + 1] >= 8 and struct.unpack('<d', all[i + 1]) or 0
    if now - at <= old then
      reports[#reports + 1] = string.sub(all[i + 1], 9)
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
return { string.format('%.0f', now), tonumber(state[1]) or 0, state[3] or '', turn, reports, mail }
