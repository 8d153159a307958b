"""`helm test`: one real decision, over gRPC or through Envoy. Arguments: URL, tenant header, tenant."""

import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

DEADLINE_S = 30.0
TRY_S = 5.0
# Only Sentinel answers with this header.
OURS = "x-correlation-id"


def over_grpc(url, header, tenant):
    """Return the decision's words; any decision will do, an error will not."""
    import grpc
    from envoy.service.auth.v3 import external_auth_pb2 as auth
    from envoy.service.auth.v3 import external_auth_pb2_grpc as stubs

    request = auth.CheckRequest()
    http = request.attributes.request.http
    http.method, http.path, http.host = "GET", "/helm-test", "helm-test"
    http.headers[header] = tenant
    with grpc.insecure_channel(urlsplit(url).netloc) as channel:
        reply = stubs.AuthorizationStub(channel).Check(request, timeout=TRY_S)
    kind = reply.WhichOneof("http_response")
    if kind == "error_response":
        raise RuntimeError("Sentinel answered with an error of its own; its log says which")
    answer = getattr(reply, kind)
    found = answer.headers if kind == "denied_response" else answer.response_headers_to_add
    if OURS not in {one.header.key.lower() for one in found}:
        raise RuntimeError("the answer has no " + OURS + ": was it Sentinel?")
    return "allowed" if kind == "ok_response" else "refused with %d" % answer.status.code


def over_http(url, header, tenant):
    """Return the status with which a request came back through Envoy; Sentinel must have seen it."""
    asked = urllib.request.Request(url, headers={header: tenant})
    try:
        with urllib.request.urlopen(asked, timeout=TRY_S) as reply:
            status, headers = reply.status, reply.headers
    except urllib.error.HTTPError as error:
        status, headers = error.code, error.headers
    if OURS not in headers:
        raise RuntimeError("status %d without %s: Envoy did not reach Sentinel" % (status, OURS))
    return "status %d" % status


def main(url, header, tenant):
    """Try until it works or the time is over: a Service may not know its pods yet."""
    ask = over_grpc if url.startswith("grpc:") else over_http
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            print("%s: %s" % (url, ask(url, header, tenant)))
            return 0
        except Exception as error:
            if time.monotonic() > end:
                print("%s: %s" % (url, error), file=sys.stderr)
                return 1
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
