#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A real Prometheus scrapes a mount with 100 busy images: every query of the shipped dashboard has data, every
# alert rule is accepted and those that should fire do.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog python3 curl prometheus promtool
DASHBOARD=$VCF_SRC/contrib/grafana/vmcryptfs.json
ALERTS=$VCF_SRC/contrib/prometheus/alerts.yml
expect_log 'was killed by signal 9'
vcf_setup
ports=$(python3 -c 'import socket
s=[socket.socket() for _ in range(2)]
[x.bind(("127.0.0.1",0)) for x in s]
print(*[x.getsockname()[1] for x in s])')
read -r PORT WEB <<<"$ports"
vcf_config <<-CONFIG
	[metrics]
	listen = 127.0.0.1:$PORT
	per-image = yes
	image-limit = 50
CONFIG
vcf_mount
echo x >"$MNT/deleted"
rm "$MNT/deleted"
python3 "$FUNC/busyimages.py" "$MNT" 100 600 2 >"$W/busy" &
JOBS=($!)
"$VMCRYPTFS" metrics -c "$CONF" &
JOBS+=($!)
EXPORTER=$!
wait_for 120 grep -q ready "$W/busy" || fail "no busy images"

promtool check rules "$ALERTS" >"$W/out" || fail "rules: $(cat "$W/out")"
"$VMCRYPTFS" metrics --once -c "$CONF" >"$W/page"
promtool check metrics <"$W/page" >"$W/out" 2>&1 || fail "metrics: $(cat "$W/out")"
[ ! -s "$W/out" ] || fail "metrics: $(cat "$W/out")"
ok "promtool finds nothing in $(grep -c '^# TYPE' "$W/page") metrics and $(grep -c 'alert:' "$ALERTS") rules"

cat >"$W/prometheus.yml" <<-CONFIG
	global:
	  scrape_interval: 1s
	  evaluation_interval: 1s
	rule_files: [$ALERTS]
	scrape_configs:
	  - job_name: vmcryptfs
	    static_configs:
	      - targets: ['127.0.0.1:$PORT']
CONFIG
prometheus --config.file="$W/prometheus.yml" --storage.tsdb.path="$W/tsdb" \
	--web.listen-address="127.0.0.1:$WEB" >"$W/prometheus.log" 2>&1 &
JOBS+=($!)
at_exit "kill ${JOBS[*]} 2>/dev/null"
query() { curl -sfG -m 20 "http://127.0.0.1:$WEB/api/v1/query" --data-urlencode "query=$1"; }
gives() { # EXPRESSION
	query "$1" >"$W/answer" && grep -q '"value":' "$W/answer"
}
wait_for 60 gives 'vmcryptfs_up == 1' || fail "nothing is scraped: $(tail -n 5 "$W/prometheus.log")"
kill -KILL "$(vcf_status_get "s['server_pid']")"
wait_for 60 gives 'count_over_time(vmcryptfs_up[10m]) > 25' || fail "no samples"
wait_for 60 gives 'vmcryptfs_server_deaths_total == 1' || fail "the death"

python3 - "$DASHBOARD" "http://127.0.0.1:$WEB" <<'PYTHON' || fail "queries without data"
import json, math, sys, urllib.parse, urllib.request

dashboard = json.load(open(sys.argv[1]))
bad = cnt = 0


def ask(expr):
    for name, value in (("$__rate_interval", "20s"), ("$mountpoint", ".*"), ("$instance", ".*")):
        expr = expr.replace(name, value)
    url = sys.argv[2] + "/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    try:
        return json.load(urllib.request.urlopen(url, timeout=20))["data"]["result"]
    except Exception as e:
        return f"{e}"


for panel in dashboard["panels"]:
    for target in panel.get("targets", []):
        result = ask(target["expr"])
        cnt += 1
        good = isinstance(result, list) and result and any(math.isfinite(float(r["value"][1])) for r in result)
        if not good:
            print("no data:", panel["title"], target["expr"], result)
            bad += 1
for variable in dashboard["templating"]["list"]:
    if variable["type"] == "query":
        label = variable["definition"].rsplit(",", 1)[1].strip(" )")
        url = f"{sys.argv[2]}/api/v1/label/{label}/values?match[]=vmcryptfs_up"
        if not json.load(urllib.request.urlopen(url, timeout=20))["data"]:
            print("no values:", variable["name"])
            bad += 1
for a in dashboard["annotations"]["list"]:
    if isinstance(ask(a["expr"]), str):
        print("annotation:", a["expr"])
        bad += 1
print(f"ok: {cnt} queries of the dashboard have data" if not bad else f"{bad} of {cnt} have none")
sys.exit(bad > 0)
PYTHON
query 'sum(rate(vmcryptfs_io_duration_seconds_count[20s]))' >"$W/answer"
ok "requests a second: $(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["data"]["result"][0]["value"][1])' "$W/answer")"
gives 'count(vmcryptfs_image_opens) == 50' || fail "the limit of images"
gives 'vmcryptfs_images_omitted >= 50' || fail "what is beyond it"

firing() { curl -sf -m 20 "http://127.0.0.1:$WEB/api/v1/alerts" | grep -q "\"alertname\":\"$1\""; }
health() {
	curl -sf -m 20 "http://127.0.0.1:$WEB/api/v1/rules" | python3 -c 'import json,sys
rules=[r for g in json.load(sys.stdin)["data"]["groups"] for r in g["rules"]]
sys.exit(not rules or any(r["health"] != "ok" for r in rules))'
}
wait_for 60 health || fail "a rule cannot be evaluated"
wait_for 60 firing VmcryptfsServerDied || fail "the death is no alert"
! firing VmcryptfsMountAbsent || fail "a false alert"
kill "${JOBS[0]}"
wait "${JOBS[0]}" || true
vcf_umount
wait_for 60 firing VmcryptfsMountAbsent || fail "the absent mount is no alert"
ok "alerts: a death, an absent mount"
kill "$EXPORTER"
wait "$EXPORTER" || fail "the exporter's end"
