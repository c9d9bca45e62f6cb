#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""keystone-seed.py DIR KEYSTONE-URL BARBICAN-PORT: what barbican-up's Keystone needs to know.

Projects service, compute; users barbican, node (role creator), watcher (observer), nobody (a
role without rights); Barbican in the catalog; application credentials of node: one with all
rights, one whose access rules do not allow DELETE; project group2 with a user and a credential. Writes DIR/seeded and DIR/cred/app*.
"""
import json
import os
import ssl
import sys
import urllib.error
import urllib.request

folder, url, port = sys.argv[1:]
context = ssl.create_default_context(cafile=folder + "/tls/ca.crt")
token = None


def password(name):
    with open(f"{folder}/cred/{name}", encoding="ascii") as f:
        return f.read()


def call(method, path, body=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["X-Auth-Token"] = token
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as reply:
            return reply.headers, json.loads(reply.read() or b"{}")
    except urllib.error.HTTPError as e:
        sys.exit(f"{method} {path}: {e.code} {e.read()[:300]}")


def log_in(user, project):
    identity = {"methods": ["password"], "password": {"user": {
        "name": user, "domain": {"name": "Default"}, "password": password(user)}}}
    scope = {"project": {"name": project, "domain": {"name": "Default"}}}
    headers, _ = call("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
    return headers["X-Subject-Token"]


def make(kind, plural, **fields):
    return call("POST", "/" + plural, {kind: fields})[1][kind]["id"]


def make_user(name, project, *with_roles):
    user = make("user", "users", name=name, domain_id="default", password=password(name))
    for role in with_roles:
        call("PUT", f"/projects/{project}/users/{user}/roles/{roles[role]}")
    return user


def make_credential(name, rules=None, user=None):
    fields = {"name": name, "roles": [{"name": "creator"}]}
    if rules:
        fields["access_rules"] = [
            {"service": "key-manager", "method": m, "path": p} for m, p in rules]
    made = call("POST", f"/users/{user or node}/application_credentials",
                {"application_credential": fields})[1]["application_credential"]
    path = f"{folder}/cred/{name}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write(made["secret"] + "\n")
    return made["id"]


token = log_in("admin", "admin")
service = make("project", "projects", name="service", domain_id="default")
compute = make("project", "projects", name="compute", domain_id="default")
roles = {r["name"]: r["id"] for r in call("GET", "/roles")[1]["roles"]}
for role in ("creator", "observer", "norights", "key-manager:service-admin"):
    roles[role] = make("role", "roles", name=role)
make_user("barbican", service, "admin")
node = make_user("node", compute, "creator")
watcher = make_user("watcher", compute, "observer")
make_user("nobody", compute, "norights")
other = make("project", "projects", name="group2", domain_id="default")
group2 = make_user("group2", other, "creator")
admin = call("GET", "/users?name=admin")[1]["users"][0]["id"]
home = call("GET", "/projects?name=admin")[1]["projects"][0]["id"]
call("PUT", f"/projects/{home}/users/{admin}/roles/{roles['key-manager:service-admin']}")

barbican = make("service", "services", name="barbican", type="key-manager")
make("region", "regions", id="RegionTwo")
for interface, region, address in (
        ("public", "RegionOne", f"https://localhost:{port}"),
        ("internal", "RegionOne", f"https://localhost:{port}/v1"),
        ("admin", "RegionOne", f"http://barbican.example:{port}"),
        ("public", "RegionTwo", "https://localhost:1")):
    make("endpoint", "endpoints", interface=interface, region_id=region, url=address,
         service_id=barbican)

token = log_in("node", "compute")
app = make_credential("app")
keep = make_credential("app-keep", [
    ("GET", "/v1/secrets"), ("POST", "/v1/secrets"), ("GET", "/v1/secrets/*"),
    ("GET", "/v1/secrets/*/payload"), ("POST", "/v1/secrets/*/consumers")])
token = log_in("group2", "group2")
app2 = make_credential("app-group2", user=group2)
with open(folder + "/seeded", "w", encoding="ascii") as f:
    f.write(f"PROJECT_ID={compute}\nNODE_ID={node}\nWATCHER_ID={watcher}\n"
            f"APP_ID={app}\nAPP_KEEP_ID={keep}\nAPP_GROUP2_ID={app2}\n")
