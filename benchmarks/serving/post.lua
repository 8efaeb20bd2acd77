-- wrk -s post.lua URL -- FILE CONTENT_TYPE [JSON_SIZE]: posts the file again and again
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = args[2]
  if args[3] then wrk.headers["Inference-Header-Content-Length"] = args[3] end
end

-- one line that load.py reads: requests, microseconds, p50, p99 (microseconds), answers that were not 2xx or failed
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status + e.connect + e.read + e.write + e.timeout))
end
