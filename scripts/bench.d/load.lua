-- What wrk sends: an operation's text and variables with uniform random SKUs, in the same bytes to either server; in the end,
-- what it counted as one line of JSON. Arguments: one|twenty|fresh, the .graphql file, number of SKUs, key, seed.

local head, tail, many, fresh, skus, seed
local sent = 0

local function escaped(text)
  return (text:gsub('[\\"]', "\\%0"):gsub("\n", "\\n"))
end

function init(args)
  local file = assert(io.open(args[2]))
  local text = escaped(file:read("*a"))
  file:close()
  many, fresh, skus, seed = args[1] == "twenty", args[1] == "fresh", tonumber(args[3]), args[5]
  math.randomseed(tonumber(seed))
  head = "POST /graphql HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " .. args[4]
    .. "\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: "
  tail = '{"query":"' .. text
end

local function sku()
  return string.format("SKU-%06d", math.random(skus))
end

function request()
  local body = tail
  if fresh then
    -- No text twice, in no round: the seed differs.
    sent = sent + 1
    body = body .. "# " .. seed .. "." .. sent
  end
  if many then
    local asked = {}
    for place = 1, 20 do
      asked[place] = sku()
    end
    body = body .. '","variables":{"skus":["' .. table.concat(asked, '","') .. '"]}}'
  else
    body = body .. '","variables":{"sku":"' .. sku() .. '"}}'
  end
  return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'DONE {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"non_2xx":%d,"broken":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
