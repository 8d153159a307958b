{{/* Milliseconds as protobuf's JSON writes a Duration: 30s, 0.200s. */}}
{{- define "sentinel.duration" -}}
{{- $ms := int64 . -}}
{{- if mod $ms 1000 }}{{ printf "%d.%03ds" (div $ms 1000) (mod $ms 1000) }}{{ else }}{{ div $ms 1000 }}s{{ end -}}
{{- end }}

{{/* Of the requests on which nobody has decided, how many are traced, in percent. */}}
{{- define "sentinel.traceRatio" -}}
{{- $t := .Values.config.tracing -}}
{{- if not $t.enabled -}}
percent: 100
{{- else if hasSuffix "always_off" (default "" $t.sampler) -}}
percent: 0
{{- else if and (hasSuffix "traceidratio" (default "" $t.sampler)) (not (kindIs "invalid" $t.samplerRatio)) -}}
percent: {{ mulf $t.samplerRatio 100 }}
{{- else -}}
percent: 100
{{- end -}}
{{- end }}

{{/*
Envoy's bootstrap: what `sentinel-ext envoy-config` prints for the same settings, without the demo's route /proxy, and with
what an app behind it needs (unprotected paths, trusted hops, upgrades, h2c). tests/chart compares both, so a change there
has to be made here, too.
*/}}
{{- define "sentinel.envoyConfig" -}}
{{- $tenants := (include "sentinel.tenantHeaders" . | fromJson).names -}}
{{- $first := default (lower .Values.config.tenantHeader) (first $tenants) -}}
{{- $traced := list -}}
{{- if .Values.config.tracing.enabled -}}
{{- $traced = list "traceparent" "tracestate" "b3" "x-b3-traceid" "x-b3-spanid" "x-b3-sampled" "x-b3-flags" -}}
{{- end -}}
{{- $socket := include "sentinel.socket" . -}}
{{- $sockets := list $socket -}}
{{- if gt (int .Values.config.workers) 1 -}}
{{- $sockets = list -}}
{{- range until (int .Values.config.workers) }}{{ $sockets = append $sockets (printf "%s.%d" $socket .) }}{{ end -}}
{{- end -}}
node:
  id: sentinel-envoy
  cluster: sentinel
static_resources:
  listeners:
  - name: ingress
    address:
      socket_address:
        address: {{ .Values.envoy.listenHost | quote }}
        port_value: {{ .Values.envoy.port }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            name: ingress
            virtual_hosts:
            - name: all
              domains:
              - '*'
              routes:
              {{- include "sentinel.unprotectedRoutes" . | nindent 14 }}
              - name: all
                match:
                  prefix: /
                route:
                  cluster: upstream
                  timeout: {{ include "sentinel.duration" .Values.config.requestTimeoutMs }}
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    check_settings:
                      context_extensions:
                        upstream: default
              {{- if .Values.envoy.rateLimitDomain }}
              rate_limits:
              - actions:
                - request_headers:
                    header_name: {{ $first | quote }}
                    descriptor_key: tenant
                    skip_if_absent: true
              - actions:
                - request_headers:
                    header_name: :path
                    descriptor_key: path
                    skip_if_absent: true
              - actions:
                - remote_address: {}
              {{- end }}
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              grpc_service:
                envoy_grpc:
                  cluster_name: sentinel
                  skip_envoy_headers: true
                timeout: {{ include "sentinel.duration" .Values.envoy.checkTimeoutMs }}
              transport_api_version: V3
              {{- if .Values.config.failOpen }}
              failure_mode_allow: true
              {{- end }}
              failure_mode_allow_header_add: true
              status_on_error:
                code: ServiceUnavailable
              metadata_context_namespaces:
              - envoy.filters.http.jwt_authn
              stat_prefix: sentinel
              allowed_headers:
                patterns:
                {{- range concat $tenants (list "x-correlation-id" "traceparent" "x-request-id" "content-type") $traced | uniq }}
                - exact: {{ . | quote }}
                {{- end }}
          {{- if .Values.envoy.rateLimitDomain }}
          - name: envoy.filters.http.ratelimit
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: {{ .Values.envoy.rateLimitDomain | quote }}
              timeout: {{ include "sentinel.duration" .Values.envoy.checkTimeoutMs }}
              {{- if not .Values.config.failOpen }}
              failure_mode_deny: true
              {{- end }}
              rate_limit_service:
                grpc_service:
                  envoy_grpc:
                    cluster_name: sentinel
                    skip_envoy_headers: true
                transport_api_version: V3
              stat_prefix: sentinel
          {{- end }}
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          common_http_protocol_options:
            idle_timeout: 3600s
            headers_with_underscores_action: REJECT_REQUEST
          stream_idle_timeout: 300s
          request_headers_timeout: 10s
          access_log:
          - name: envoy.access_loggers.http_grpc
            filter:
              {{- include "sentinel.logFilter" . | nindent 14 }}
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
              common_config:
                log_name: sentinel
                grpc_service:
                  envoy_grpc:
                    cluster_name: sentinel
                    skip_envoy_headers: true
                transport_api_version: V3
                buffer_flush_interval: 0.100s
                buffer_size_bytes: 65536
              additional_response_headers_to_log:
              - grpc-status
              - x-sentinel-reason
              additional_response_trailers_to_log:
              - grpc-status
          {{- if .Values.envoy.otlpAddress }}
          tracing:
            {{- $ratio := include "sentinel.traceRatio" . | fromYaml }}
            {{- if $ratio.percent }}
            random_sampling:
              value: {{ $ratio.percent }}
            {{- else }}
            random_sampling: {}
            {{- end }}
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                '@type': type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                grpc_service:
                  envoy_grpc:
                    cluster_name: otlp
                  timeout: 0.250s
                service_name: envoy
            spawn_upstream_span: true
            no_context_propagation: true
          {{- end }}
          use_remote_address: true
          {{- with .Values.envoy.trustedHops }}
          xff_num_trusted_hops: {{ . }}
          {{- end }}
          {{- with .Values.envoy.upgrades }}
          upgrade_configs:
          {{- range . }}
          - upgrade_type: {{ . | quote }}
          {{- end }}
          {{- end }}
          early_header_mutation_extensions:
          - name: envoy.http.early_header_mutation.header_mutation
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations:
              - remove: x-sentinel-tier
          normalize_path: true
    per_connection_buffer_limit_bytes: 32768
  {{- if include "sentinel.envoyMetrics" . }}
  - name: metrics
    address:
      socket_address:
        address: {{ .Values.envoy.listenHost | quote }}
        port_value: {{ .Values.metrics.envoy.port }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: metrics
          route_config:
            name: metrics
            virtual_hosts:
            - name: metrics
              domains:
              - '*'
              routes:
              - name: metrics
                match:
                  path: /stats/prometheus
                  headers:
                  - name: :method
                    string_match:
                      exact: GET
                route:
                  cluster: envoy_admin
                  timeout: 10s
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          request_headers_timeout: 10s
    per_connection_buffer_limit_bytes: 32768
  {{- end }}
  clusters:
  - name: sentinel
    type: STATIC
    connect_timeout: 0.250s
    load_assignment:
      cluster_name: sentinel
      endpoints:
      - lb_endpoints:
        {{- range $path := $sockets }}
        - endpoint:
            address:
              pipe:
                path: {{ $path }}
        {{- end }}
    health_checks:
    - timeout: 0.500s
      interval: 1s
      unhealthy_threshold: 2
      healthy_threshold: 1
      grpc_health_check:
        service_name: envoy.service.auth.v3.Authorization
      no_traffic_interval: 1s
    circuit_breakers:
      thresholds:
      - max_connections: 1000000
        max_pending_requests: 1000000
        max_requests: 1000000
        max_retries: 1000000
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            connection_keepalive:
              interval: 30s
              timeout: 5s
    common_lb_config:
      healthy_panic_threshold: {}
      update_merge_window: 0s
  - name: upstream
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: 127.0.0.1
                port_value: {{ .Values.app.port }}
    {{- if eq .Values.app.protocol "h2c" }}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options: {}
    {{- end }}
    circuit_breakers:
      thresholds:
      - max_connections: 1000000
        max_pending_requests: 1000000
        max_requests: 1000000
        max_retries: 1000000
    dns_lookup_family: ALL
  {{- with .Values.envoy.otlpAddress }}
  {{- $host := regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" }}
  - name: otlp
    type: {{ ternary "STATIC" "STRICT_DNS" (regexMatch "^([0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*)$" $host) }}
    connect_timeout: 0.250s
    load_assignment:
      cluster_name: otlp
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: {{ $host | quote }}
                port_value: {{ regexFind "[0-9]+$" . }}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options: {}
  {{- end }}
  {{- if include "sentinel.envoyMetrics" . }}
  - name: envoy_admin
    type: STATIC
    connect_timeout: 0.250s
    load_assignment:
      cluster_name: envoy_admin
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: 127.0.0.1
                port_value: {{ .Values.envoy.adminPort }}
  {{- end }}
admin:
  address:
    socket_address:
      address: 127.0.0.1
      port_value: {{ .Values.envoy.adminPort }}
{{- end }}
