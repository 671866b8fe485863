#!lua
-- A replica is there, and learns how many are.
--
-- KEYS: when each was here last. ARGV: the replica; for how many milliseconds that counts; 1, or 0 where it leaves.
local time = redis.call('TIME')
local now, lasts = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), tonumber(ARGV[2])
if ARGV[3] == '1' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - lasts)
-- Of a clock that was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + lasts, '+inf')
redis.call('PEXPIRE', KEYS[1], 20 * lasts)
return redis.call('ZCARD', KEYS[1])
