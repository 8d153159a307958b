{{/*
What tells a mesh or gateway to ask this Sentinel, for mode service; NOTES.txt prints it. The fields are those of the
recipes in docs/install: tests/chart/test_notes.py compares both, and holds them to the projects' schemas.
*/}}
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
    grpc_service: {envoy_grpc: {cluster_name: sentinel, skip_envoy_headers: true}, timeout: {{ $timeout }}}
    failure_mode_allow: {{ $v.config.failOpen }}
    failure_mode_allow_header_add: true
    status_on_error: {code: ServiceUnavailable}
    clear_route_cache: false
    stat_prefix: sentinel
    metadata_context_namespaces: [envoy.filters.http.jwt_authn]
    allowed_headers: {patterns: [{{ range $i, $h := $headers }}{{ if $i }}, {{ end }}{exact: {{ $h }}}{{ end }}]}
clusters:
- name: sentinel
  type: STRICT_DNS
  connect_timeout: 0.25s
  lb_policy: LEAST_REQUEST
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}}
  common_lb_config: {healthy_panic_threshold: {value: 0}, update_merge_window: 0s}
  health_checks:
  - {timeout: 0.5s, interval: 1s, no_traffic_interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1,
     grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}}
  circuit_breakers:
    thresholds: [{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000}]
  load_assignment:
    cluster_name: sentinel
    endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: {{ $name }}{{ if $v.service.headless }}-headless{{ end }}.{{ $namespace }}.svc.cluster.local, port_value: {{ ternary (int $v.ports.grpc) $port $v.service.headless }}}}}}]}]
{{- else if eq $v.mesh "istio" -}}
meshConfig:
  extensionProviders:
  - name: {{ toYaml $name }}
    envoyExtAuthzGrpc:
      service: {{ $name }}.{{ $namespace }}.svc.cluster.local
      port: {{ $port }}
      timeout: {{ $timeout }}
      failOpen: {{ $v.config.failOpen }}
      statusOnError: "503"
      clearRouteCache: false
  - name: {{ $name }}-log
    envoyHttpAls:
      service: {{ $name }}.{{ $namespace }}.svc.cluster.local
      port: {{ $port }}
      logName: sentinel
      additionalResponseHeadersToLog: [grpc-status, x-sentinel-reason]
      additionalResponseTrailersToLog: [grpc-status]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: sentinel, namespace: your-namespace}
spec:
  selector: {matchLabels: {app: your-app}}
  action: CUSTOM
  provider: {name: {{ toYaml $name }}}
  rules: [{to: [{operation: {paths: ["/*"]}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
spec:
  host: {{ $name }}.{{ $namespace }}.svc.cluster.local
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    connectionPool:
      tcp: {connectTimeout: 250ms}
      http: {http2MaxRequests: 1000000, http1MaxPendingRequests: 1000000}
    outlierDetection: {consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 10s, maxEjectionPercent: 50}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: sentinel, namespace: your-namespace}
spec:
  selector: {matchLabels: {app: your-app}}
  accessLogging: [{providers: [{name: {{ $name }}-log}]}]
{{- else if eq $v.mesh "envoy-gateway" -}}
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: sentinel, namespace: your-namespace}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: your-route}]
  extAuth:
    grpc:
      backendRefs: [{name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}, port: {{ $port }}}]
      backendSettings:
        loadBalancer: {type: LeastRequest}
        circuitBreaker: {maxParallelRequests: 1000000, maxPendingRequests: 1000000}
        healthCheck:
          panicThreshold: 0
          active:
            type: GRPC
            grpc: {service: envoy.service.auth.v3.Authorization}
            timeout: 500ms
            interval: 1s
            unhealthyThreshold: 2
            healthyThreshold: 1
    timeout: {{ $v.envoy.checkTimeoutMs }}ms
    failOpen: {{ $v.config.failOpen }}
    statusOnError: 503
    recomputeRoute: false
    headersToExtAuth: {{ toJson $headers }}
    contextExtensions: [{name: upstream, type: Value, value: your-upstream}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
spec:
  from: [{group: gateway.envoyproxy.io, kind: SecurityPolicy, namespace: your-namespace}]
  to: [{group: "", kind: Service, name: {{ toYaml $name }}}]
{{- else if eq $v.mesh "contour" -}}
apiVersion: projectcontour.io/v1alpha1
kind: ExtensionService
metadata: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
spec:
  protocol: h2c
  services: [{name: {{ toYaml $name }}, port: {{ $port }}}]
  loadBalancerPolicy: {strategy: WeightedLeastRequest}
  timeoutPolicy: {response: {{ $v.envoy.checkTimeoutMs }}ms}
  circuitBreakerPolicy: {maxConnections: 1000000, maxPendingRequests: 1000000, maxRequests: 1000000}
---
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: your-proxy, namespace: your-namespace}
spec:
  virtualhost:
    fqdn: your-host.example.com
    tls: {secretName: your-certificate}
    authorization:
      extensionRef: {apiVersion: projectcontour.io/v1alpha1, name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
      responseTimeout: {{ $v.envoy.checkTimeoutMs }}ms
      failOpen: {{ $v.config.failOpen }}
      authPolicy: {context: {upstream: your-upstream}}
{{- else if eq $v.mesh "kgateway" -}}
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayExtension
metadata: {name: {{ toYaml $name }}, namespace: your-namespace}
spec:
  extAuth:
    grpcService:
      backendRef: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}, port: {{ $port }}}
      requestTimeout: {{ $v.envoy.checkTimeoutMs }}ms
    failOpen: {{ $v.config.failOpen }}
    statusOnError: 503
    clearRouteCache: false
    statPrefix: sentinel
    headersToForward: {{ toJson $headers }}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: sentinel, namespace: your-namespace}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: your-route}]
  extAuth:
    extensionRef: {name: {{ toYaml $name }}}
    contextExtensions: {upstream: your-upstream}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: BackendConfigPolicy
metadata: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
spec:
  targetRefs: [{group: "", kind: Service, name: {{ toYaml $name }}}]
  connectTimeout: 250ms
  loadBalancer: {leastRequest: {}, healthyPanicThreshold: 0}
  circuitBreakers: {maxConnections: 1000000, maxPendingRequests: 1000000, maxRequests: 1000000}
  healthCheck:
    grpc: {serviceName: envoy.service.auth.v3.Authorization}
    timeout: 500ms
    interval: 1s
    unhealthyThreshold: 2
    healthyThreshold: 1
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
spec:
  from: [{group: gateway.kgateway.dev, kind: GatewayExtension, namespace: your-namespace}]
  to: [{group: "", kind: Service, name: {{ toYaml $name }}}]
{{- else if eq $v.mesh "emissary" -}}
apiVersion: getambassador.io/v3alpha1
kind: AuthService
metadata: {name: {{ toYaml $name }}, namespace: {{ toYaml $namespace }}}
spec:
  auth_service: {{ $name }}{{ if $v.service.headless }}-headless{{ end }}.{{ $namespace }}:{{ ternary (int $v.ports.grpc) $port $v.service.headless }}
  proto: grpc
  protocol_version: v3
  timeout_ms: {{ $v.envoy.checkTimeoutMs }}
  failure_mode_allow: {{ $v.config.failOpen }}
  status_on_error: {code: 503}
  circuit_breakers: [{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000}]
{{- end -}}
{{- end }}
