#!lua
-- One step of one partition: what it must find there, or nothing is written.
--
-- KEYS: the head; the seal; then those to set, to delete, to add to, to remove from.
-- ARGV: the position to find; the new one; the instant up to which it is complete; how many keys of each kind; then the values
-- to set, the members to add, the members to remove.
-- Answers {1, false}; {0, head} where it found something else; {2, seal} where the partition is sealed.
local seal = redis.call('GET', KEYS[2])
if seal then return {2, seal} end
local head = redis.call('GET', KEYS[1])
local position, as_of = '', '-'
if head then position, as_of = string.match(head, '^(%S+) (%S+)$') end
if position ~= ARGV[1] then return {0, head} end

local key, arg = 2, 7
-- A call each would take half as long again. As many at once as may be unpacked.
local left = tonumber(ARGV[4])
while left > 0 do
  local sets, count = {}, math.min(left, 2000)
  for n = 1, count do sets[2 * n - 1], sets[2 * n] = KEYS[key + n], ARGV[arg + n] end
  redis.call('MSET', unpack(sets))
  key, arg, left = key + count, arg + count, left - count
end
for _ = 1, tonumber(ARGV[5]) do
  key = key + 1
  redis.call('DEL', KEYS[key])
end
for _ = 1, tonumber(ARGV[6]) do
  key, arg = key + 1, arg + 1
  redis.call('ZADD', KEYS[key], 0, ARGV[arg])
end
for _ = 1, tonumber(ARGV[7]) do
  key, arg = key + 1, arg + 1
  redis.call('ZREM', KEYS[key], ARGV[arg])
end

-- Freshness only grows; of a partition that is being written anew nothing can be said.
local now = ARGV[3]
if string.sub(ARGV[2], 1, 1) == '~' then
  now = '-'
elseif as_of ~= '-' and (now == '-' or tonumber(as_of) > tonumber(now)) then
  now = as_of
end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. now)
return {1, false}
