{{/* Paths that nobody decides on (envoy.unprotectedPaths): their routes in Envoy's file, and the filter of its access log. */}}
{{- define "sentinel.unprotectedRoutes" -}}
{{- range $path := .Values.envoy.unprotectedPaths }}
- name: unprotected
  match:
    path: {{ $path | quote }}
  route:
    cluster: upstream
    timeout: {{ include "sentinel.duration" $.Values.config.requestTimeoutMs }}
  typed_per_filter_config:
    envoy.filters.http.ext_authz:
      '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
      disabled: true
    {{- if $.Values.envoy.rateLimitDomain }}
    envoy.filters.http.ratelimit:
      '@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute
      vh_rate_limits: IGNORE
    {{- end }}
{{- end }}
{{- end }}

{{- define "sentinel.logFilter" -}}
{{- with .Values.envoy.unprotectedPaths }}
# What nobody decided on is not Sentinel's to count.
{{- $quoted := list }}
{{- range . }}{{ $quoted = append $quoted (regexQuoteMeta .) }}{{ end }}
and_filter:
  filters:
  - not_health_check_filter: {}
  - header_filter:
      header:
        name: ":path"
        string_match:
          safe_regex:
            regex: {{ printf "^(%s)([?].*)?$" (join "|" $quoted) | quote }}
        invert_match: true
{{- else }}
not_health_check_filter: {}
{{- end }}
{{- end }}
