-- The steps of `step.rs`, on keys of one tenant, all of them in one go. Times are microseconds of this server, debts are
-- ticks of 16 ns, so that every number is a whole one that a double holds; what must be rounded is rounded towards fewer.
--
-- KEYS: the tenant's marker, then a key for each level.
-- ARGV: "ask" or "spend"; the latest that it can be now, 0 unknown; "1" if the tenant may be new; when state was lost, 0 never;
--       the marker's life in ms; then for each level
--   ask:   ticks a token, ticks of the burst, silence after a loss in us, process, sequence (20 digits), held, want, need,
--          give back, the most ahead, memory of a lease in us
--   spend: ticks a token, ticks of the burst, silence after a loss in us, hits
-- Answer: "NEW", now; or "OK", now, spent, returned, expired, then for each level
--   ask:   keep, granted, remaining, retry after in us
--   spend: 1 if it has room, remaining, retry after in us
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local latest = tonumber(ARGV[2])
if latest > 0 and now > latest then now = latest end
if ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[1]) == 0 then return {'NEW', now} end
local lost = tonumber(ARGV[4])

-- Keys outlive their debt by so much: a step of the clock must not make them vanish early.
local SPARE_MS = 7200000
local LEASES = 256
local spent, returned, expired = 0, 0, 0

local function whole(number) return string.format('%.0f', number) end

local function load(key)
  local state = {debt = 0, at = now, out = 0, leases = {}}
  local text = redis.call('GET', key)
  if not text then return state end
  local debt, at, rest = text:match('^(%d+) (%d+)(.*)$')
  state.debt, state.at = tonumber(debt), tonumber(at)
  for process, tokens, ends, sequence in rest:gmatch(';(%x+) (%d+) (%d+) (%d+)') do
    local lease = {process = process, tokens = tonumber(tokens), ends = tonumber(ends), sequence = sequence}
    state.leases[#state.leases + 1] = lease
    state.out = state.out + lease.tokens
  end
  return state
end

local function save(key, state)
  local parts, last = {whole(state.debt) .. ' ' .. whole(state.at)}, now
  for _, lease in ipairs(state.leases) do
    parts[#parts + 1] = lease.process .. ' ' .. whole(lease.tokens) .. ' ' .. whole(lease.ends) .. ' ' .. lease.sequence
    if lease.ends > last then last = lease.ends end
  end
  local life = math.ceil(state.debt * 16 / 1000000) + math.ceil((last - now) / 1000) + SPARE_MS
  redis.call('SET', key, table.concat(parts, ';'), 'PX', whole(life))
end

local function age(state, at)
  if at <= state.at then return end
  state.debt = math.max(0, state.debt - math.floor((at - state.at) * 125 / 2))
  state.at = at
end

local function settle(state, token)
  table.sort(state.leases, function(a, b) return a.ends < b.ends end)
  while state.leases[1] and state.leases[1].ends <= now do
    local lease = table.remove(state.leases, 1)
    age(state, lease.ends)
    state.debt = math.max(state.debt, state.out * token)
    state.out = state.out - lease.tokens
    expired = expired + lease.tokens
  end
  age(state, now)
  state.debt = math.max(state.debt, state.out * token)
end

local function free(state, token, burst)
  if state.debt >= burst then return 0 end
  local count = math.floor((burst - state.debt) / token)
  if count * token > burst - state.debt then count = count - 1 end
  return count
end

local function wait(state, token, burst, count)
  return math.max(1, math.ceil((state.debt + count * token - burst) * 2 / 125))
end

local function silent(after)
  if lost > 0 and now < lost + after then return lost + after - now end
  return 0
end

local answer = {'OK', now, 0, 0, 0}
local function tell(...)
  for _, value in ipairs({...}) do answer[#answer + 1] = value end
end

local function ask(key, at)
  local token, burst, after = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local process, sequence = ARGV[at + 3], ARGV[at + 4]
  local held, want, need, back = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
  local ahead, memory = tonumber(ARGV[at + 9]), tonumber(ARGV[at + 10])
  if silent(after) > 0 then return tell(0, 0, 0, silent(after)) end
  if burst == 0 then return tell(0, 0, 0, after) end
  local state = load(key)
  settle(state, token)
  local mine, others = nil, false
  for _, lease in ipairs(state.leases) do
    if lease.process == process then mine = lease elseif lease.tokens > 0 then others = true end
  end
  if (mine and sequence <= mine.sequence) or (not mine and #state.leases >= LEASES) then
    save(key, state)
    return tell(0, 0, 0, mine and 0 or memory)
  end
  local had = mine and mine.tokens or 0
  local keep = math.min(held, had)
  local give = math.min(back, had - keep)
  state.debt = math.max(0, state.debt - give * token)
  state.out = state.out - (had - keep)
  returned, spent = returned + give, spent + (had - keep - give)
  local left = free(state, token, burst)
  local quarter = others and math.max(1, math.floor(left / 4)) or left
  local granted = math.min(want, math.max(0, ahead - keep), quarter)
  granted = math.min(math.max(granted, need), left)
  state.debt = state.debt + granted * token
  if not mine then
    mine = {process = process}
    state.leases[#state.leases + 1] = mine
  end
  mine.tokens, mine.ends, mine.sequence = keep + granted, now + memory, sequence
  save(key, state)
  local retry = 0
  if left == 0 and math.max(want, need) > 0 then retry = wait(state, token, burst, 1) end
  tell(keep, granted, left - granted, retry)
end

if ARGV[1] == 'ask' then
  for index = 2, #KEYS do ask(KEYS[index], 6 + (index - 2) * 11) end
else
  local states, allowed, rows = {}, true, {}
  for index = 2, #KEYS do
    local at = 6 + (index - 2) * 4
    local token, burst, after, hits = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local key, row = KEYS[index], {room = false, left = 0, wait = 0, hits = hits}
    if silent(after) > 0 then row.wait = silent(after)
    elseif burst == 0 then row.wait = after
    else
      local state = states[key]
      if not state then
        state = load(key)
        settle(state, token)
        states[key] = state
      end
      row.left = free(state, token, burst)
      row.room = row.left >= math.max(1, hits)
      if row.room then
        state.debt = state.debt + hits * token
        row.left = row.left - hits
      else
        row.wait = wait(state, token, burst, math.max(1, hits))
      end
    end
    allowed = allowed and row.room
    rows[#rows + 1] = row
  end
  if allowed then
    for key, state in pairs(states) do save(key, state) end
  end
  for _, row in ipairs(rows) do
    if not allowed and row.room then row.left = row.left + row.hits end
    tell(row.room and 1 or 0, row.left, row.wait)
  end
  -- Nothing was stored, so nothing was counted as ended.
  if not allowed then expired = 0 end
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[5])
answer[3], answer[4], answer[5] = spent, returned, expired
return answer
