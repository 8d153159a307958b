{{/* What tells a mesh or gateway to ask this Sentinel, for mode service; NOTES.txt prints it. */}}
{{- define "sentinel.mesh" -}}
{{- $v := .Values -}}
{{- $name := include "sentinel.fullname" . -}}
{{- $namespace := include "sentinel.namespace" . -}}
{{- $port := int $v.service.port -}}
{{- $timeout := include "sentinel.duration" $v.envoy.checkTimeoutMs -}}
{{- $names := (include "sentinel.tenantHeaders" . | fromJson).names -}}
{{- $headers := concat $names (list "x-correlation-id" "traceparent") | uniq -}}
{{- if eq $v.mesh "envoy" -}}
http_filters:
- name: envoy.filters.http.ext_authz
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
    transport_api_version: V3
    grpc_service: {envoy_grpc: {cluster_name: sentinel}, timeout: {{ $timeout }}}
    failure_mode_allow: {{ $v.config.failOpen }}
    failure_mode_allow_header_add: true
    status_on_error: {code: ServiceUnavailable}
    allowed_headers: {patterns: [{{ range $i, $h := $headers }}{{ if $i }}, {{ end }}{exact: {{ $h }}}{{ end }}]}
clusters:
- name: sentinel
  type: STRICT_DNS
  connect_timeout: 0.25s
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {http2_protocol_options: {}}
  common_lb_config: {healthy_panic_threshold: {value: 0}, update_merge_window: 0s}
  health_checks:
  - {timeout: 0.5s, interval: 1s, no_traffic_interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1,
     grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}}
  load_assignment:
    cluster_name: sentinel
    endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: {{ $name }}{{ if $v.service.headless }}-headless{{ end }}.{{ $namespace }}.svc.cluster.local, port_value: {{ ternary (int $v.ports.grpc) $port $v.service.headless }}}}}}]}]
{{- else if eq $v.mesh "istio" -}}
# meshConfig
extensionProviders:
- name: {{ $name }}
  envoyExtAuthzGrpc:
    service: {{ $name }}.{{ $namespace }}.svc.cluster.local
    port: {{ $port }}
    timeout: {{ $timeout }}
    failOpen: {{ $v.config.failOpen }}
    statusOnError: "503"
- name: {{ $name }}-log
  envoyHttpAls: {service: {{ $name }}.{{ $namespace }}.svc.cluster.local, port: {{ $port }}, logName: sentinel}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: sentinel, namespace: YOUR-NAMESPACE}
spec:
  selector: {matchLabels: {app: YOUR-APP}}
  action: CUSTOM
  provider: {name: {{ $name }}}
  rules: [{to: [{operation: {paths: ["/*"]}}]}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: sentinel, namespace: YOUR-NAMESPACE}
spec: {accessLogging: [{providers: [{name: {{ $name }}-log}]}]}
{{- else if eq $v.mesh "envoy-gateway" -}}
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: sentinel, namespace: {{ $namespace }}}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: YOUR-ROUTE}]
  extAuth:
    grpc: {backendRefs: [{name: {{ $name }}, port: {{ $port }}}]}
    failOpen: {{ $v.config.failOpen }}
    timeout: {{ $v.envoy.checkTimeoutMs }}ms
    headersToExtAuth: {{ toJson $headers }}
    statusOnError: 503
{{- else if eq $v.mesh "contour" -}}
apiVersion: projectcontour.io/v1alpha1
kind: ExtensionService
metadata: {name: {{ $name }}, namespace: {{ $namespace }}}
spec:
  protocol: h2c
  services: [{name: {{ $name }}, port: {{ $port }}}]
  timeoutPolicy: {response: {{ $v.envoy.checkTimeoutMs }}ms}
---
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: YOUR-PROXY, namespace: YOUR-NAMESPACE}
spec:
  virtualhost:
    fqdn: YOUR-HOST
    tls: {secretName: YOUR-CERTIFICATE}
    authorization:
      extensionRef: {name: {{ $name }}, namespace: {{ $namespace }}}
      responseTimeout: {{ $v.envoy.checkTimeoutMs }}ms
      failOpen: {{ $v.config.failOpen }}
{{- else if eq $v.mesh "kgateway" -}}
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayExtension
metadata: {name: {{ $name }}, namespace: {{ $namespace }}}
spec:
  type: ExtAuth
  extAuth:
    failOpen: {{ $v.config.failOpen }}
    grpcService: {backendRef: {name: {{ $name }}, port: {{ $port }}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: sentinel, namespace: {{ $namespace }}}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: YOUR-ROUTE}]
  extAuth: {extensionRef: {name: {{ $name }}}}
{{- else if eq $v.mesh "emissary" -}}
apiVersion: getambassador.io/v3alpha1
kind: AuthService
metadata: {name: {{ $name }}, namespace: {{ $namespace }}}
spec:
  auth_service: {{ $name }}.{{ $namespace }}:{{ $port }}
  proto: grpc
  protocol_version: v3
  timeout_ms: {{ $v.envoy.checkTimeoutMs }}
  failure_mode_allow: {{ $v.config.failOpen }}
  status_on_error: {code: 503}
{{- end -}}
{{- end }}
