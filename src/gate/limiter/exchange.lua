#!lua
-- A replica tells what it took of a rate, and learns what the others did.
--
-- KEYS: the rate's cell. ARGV: units a second; the burst; units taken since this replica was last here, less those given back; how much
-- of the burst is used as this replica knows it, with these, in millionths of a unit; the mark and the count that it found here last,
-- or '' and 0; a mark that nobody else has. Answers the mark, the count, and by how many millionths more is used than the replica knew.
--
-- Numbers here are doubles, exact up to 2^53. What is used stays below: a burst is at most 10^9 units, 10^15 millionths, and more than
-- half of 2^53 is cut off. A rate times an age may be more and inexact, but then it is more than all that is used.
local LIMIT = 4500000000000000
local rate, burst, units, level = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local cell = redis.call('HMGET', KEYS[1], 'mark', 'count', 'used', 'at', 'rate', 'burst')

local mark, count, used, more
if not cell[1] then
  -- Nobody was here, all was given back by time, or Redis lost it: what the replica knows is all that is known.
  mark, count, used, more = ARGV[7], units, level, 0
else
  mark, count = cell[1], tonumber(cell[2]) + units
  if mark == ARGV[5] then
    -- What the others took since. They need no clock in common: each replica lets its own flow back.
    more = (count - units - tonumber(ARGV[6])) * 1000000
    used = level + more
  else
    local before = tonumber(cell[3]) - math.max(0, now - tonumber(cell[4])) * tonumber(cell[5])
    before = math.max(0, before)
    if tonumber(cell[5]) ~= rate or tonumber(cell[6]) ~= burst then
      before = math.min(math.ceil(before / 1000000), tonumber(cell[6]), burst) * 1000000
    end
    used = math.max(level, before + units * 1000000)
    more = used - level
  end
end

used = math.min(LIMIT, math.max(0, used))
local whole = function(number) return string.format('%.0f', number) end
redis.call('HSET', KEYS[1], 'mark', mark, 'count', whole(count), 'used', whole(used), 'at', whole(now), 'rate', rate, 'burst', burst)
-- A minute after the whole burst is there again.
redis.call('PEXPIRE', KEYS[1], whole(math.ceil(used / rate / 1000) + 60000))
return {mark, count, more}
