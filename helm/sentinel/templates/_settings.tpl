{{/* Sentinel's environment, files and mounts. */}}

{{- define "sentinel.socketFolder" -}}/run/sentinel{{- end }}
{{- define "sentinel.socket" -}}{{ include "sentinel.socketFolder" . }}/sentinel.sock{{- end }}

{{/* A value as an environment variable holds it: never 1e+06. */}}
{{- define "sentinel.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{- define "sentinel.policyMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{ tpl .Values.policy.existingConfigMap . }}
{{- else if .Values.policy.content -}}
{{ include "sentinel.fullname" . }}-policy
{{- end -}}
{{- end }}

{{- define "sentinel.rateLimitMap" -}}
{{- if .Values.rateLimit.existingConfigMap -}}
{{ tpl .Values.rateLimit.existingConfigMap . }}
{{- else if .Values.rateLimit.files -}}
{{ include "sentinel.fullname" . }}-ratelimit
{{- end -}}
{{- end }}

{{/* The policy file's text. Helm reads a bare `off` as false, so it is put back where the policy has the word. */}}
{{- define "sentinel.policyText" -}}
{{- if kindIs "string" .Values.policy.content -}}
{{ .Values.policy.content }}
{{- else -}}
{{- $policy := deepCopy .Values.policy.content -}}
{{- range $stage, $mode := default dict $policy.stages -}}
{{- if kindIs "bool" $mode }}{{ $_ := set $policy.stages $stage "off" }}{{ end -}}
{{- end -}}
{{- range $name, $upstream := default dict $policy.upstreams -}}
{{- if and $upstream (kindIs "bool" (get $upstream "breaker")) }}{{ $_ := set $upstream "breaker" "off" }}{{ end -}}
{{- end -}}
{{ toYaml $policy }}
{{- end -}}
{{- end }}

{{/* Request headers that may hold the tenant's name, as JSON: of the policy's `identify`, else config.tenantHeader. */}}
{{- define "sentinel.tenantHeaders" -}}
{{- /* As Envoy knows headers: its list of them is compared letter by letter. */}}
{{- $found := list -}}
{{- range .Values.envoy.tenantHeaders }}{{ $found = append $found (lower .) }}{{ end -}}
{{- if not $found -}}
{{- $content := .Values.policy.content -}}
{{- if kindIs "string" $content }}{{ $content = fromYaml $content }}{{ end -}}
{{- $identify := ternary (list) (get (default dict $content) "identify") (not (empty .Values.policy.existingConfigMap)) -}}
{{- if kindIs "slice" $identify -}}
{{- range $identify }}{{ with and (kindIs "map" .) .header }}{{ $found = append $found (toString . | lower) }}{{ end }}{{ end -}}
{{- else -}}
{{- $found = list (lower .Values.config.tenantHeader) -}}
{{- end -}}
{{- end -}}
{{ toJson (dict "names" $found) }}
{{- end }}

{{/* Shorter than other names: Kubernetes puts a hash behind a StatefulSet's name into a label of 63 characters. */}}
{{- define "sentinel.redisName" -}}
{{ include "sentinel.fullname" . | trunc 46 | trimSuffix "-" }}-redis
{{- end }}

{{- define "sentinel.redisUrl" -}}
{{- if .Values.redis.bundled.enabled -}}
redis://{{ include "sentinel.redisName" . }}:6379
{{- else -}}
{{ default "redis://redis:6379" .Values.redis.url }}
{{- end -}}
{{- end }}

{{/*
The ports that pods reach Redis on, as a JSON list: those of redis.url's hosts, and networkPolicy.egress.redisPorts. What a
Redis Sentinel or a Secret with the URL leads to cannot be seen: the usual ports, unless redisPorts names others.
*/}}
{{- define "sentinel.redisPorts" -}}
{{- $more := .Values.networkPolicy.egress.redisPorts -}}
{{- $url := include "sentinel.redisUrl" . | lower -}}
{{- $found := list -}}
{{- if .Values.redis.urlSecret.name -}}
{{- if not $more }}{{ $found = list 6379 26379 }}{{ end -}}
{{- else if not (hasPrefix "memory:" $url) -}}
{{- $sentinel := contains "+sentinel:" $url -}}
{{- $hosts := splitList "://" $url | last | splitList "/" | first | splitList "?" | first -}}
{{- range splitList "," $hosts -}}
{{- $found = append $found (regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" $sentinel) | int) -}}
{{- end -}}
{{- if and $sentinel (not $more) }}{{ $found = append $found 6379 }}{{ end -}}
{{- end -}}
{{ range $more }}{{ $found = append $found (int .) }}{{ end -}}
{{ $found | uniq | toJson }}
{{- end }}

{{/* The Secret with Redis' password; empty: there is none. */}}
{{- define "sentinel.redisSecret" -}}
{{- if .Values.redis.auth.existingSecret -}}
{{ tpl .Values.redis.auth.existingSecret . }}
{{- else if .Values.redis.auth.password -}}
{{ include "sentinel.fullname" . }}-redis-auth
{{- end -}}
{{- end }}

{{/* Where Sentinel serves gRPC. */}}
{{- define "sentinel.grpcAddress" -}}
{{- if eq .Values.mode "sidecar" -}}
unix://{{ include "sentinel.socket" . }}
{{- else -}}
{{ .Values.config.listenHost }}:{{ .Values.ports.grpc }}
{{- end -}}
{{- end }}

{{/* Variables by name; those that are nil are not set. */}}
{{- define "sentinel.variables" -}}
{{- $c := .Values.config -}}
{{- $r := .Values.rateLimit -}}
{{- $all := dict
  "GRPC_ADDRESS" (include "sentinel.grpcAddress" .)
  "ADMIN_ADDRESS" (printf "%s:%d" (ternary $c.listenHost "127.0.0.1" .Values.metrics.enabled) (int .Values.ports.admin))
  "DEBUG_GRPC_ADDRESS" $c.debugAddress
  "WORKERS" (ternary $c.workers nil (gt (int $c.workers) 1))
  "LOG_LEVEL" $c.logLevel
  "ADMIN_ACTIONS" (ternary true nil $c.adminActions)
  "FAIL_OPEN" $c.failOpen
  "TENANT_HEADER" $c.tenantHeader
  "REQUEST_TIMEOUT_MS" (ternary $c.requestTimeoutMs nil (gt (int $c.requestTimeoutMs) 0))
  "BASE_RATE_LIMIT" $c.baseRateLimit
  "WINDOW_MS" $c.windowMs
  "BURST_CAPACITY" $c.burstCapacity
  "REFILL_RATE" $c.refillRate
  "STORE_TIMEOUT_MS" $c.storeTimeoutMs
  "SLO_LATENCY_THRESHOLD" $c.sloLatencyThresholdMs
  "BREAKER_FAILURE_THRESHOLD" $c.breaker.failureThreshold
  "BREAKER_CONSECUTIVE_FAILURES" $c.breaker.consecutiveFailures
  "BREAKER_COOLDOWN_MS" $c.breaker.cooldownMs
  "BREAKER_HALF_OPEN_MAX_REQUESTS" $c.breaker.halfOpenMaxRequests
  "ENABLE_TRACING" (ternary true nil $c.tracing.enabled)
  "OTEL_TRACES_SAMPLER" (ternary $c.tracing.sampler nil $c.tracing.enabled)
  "OTEL_TRACES_SAMPLER_ARG" (ternary $c.tracing.samplerRatio nil $c.tracing.enabled)
  "LOG_ALLOWED_RATIO" $c.logAllowedRatio
  "LOG_REDACT" (ternary (join "," $c.logRedact) nil (not (empty $c.logRedact)))
  "OTLP_ENDPOINT" (ternary $c.tracing.otlpEndpoint nil (not (empty $c.tracing.otlpEndpoint)))
  "RATELIMIT_HEADERS" $r.headers
  "RATELIMIT_ON_STORE_FAILURE" $r.onStoreFailure
  "RATELIMIT_SHADOW_MODE" (ternary true nil $r.shadowMode)
  "RATELIMIT_QUOTA_MODE" (ternary true nil $r.quotaMode)
  "RATELIMIT_DYNAMIC_METADATA" (ternary true nil $r.dynamicMetadata)
  "RATELIMIT_MERGE_DOMAINS" (ternary true nil $r.mergeDomains)
  "RATELIMIT_LENIENT" (ternary true nil $r.lenient)
  "RATELIMIT_NEAR_LIMIT_RATIO" $r.nearLimitRatio
  "RATELIMIT_LEASES" (ternary nil false $r.leases)
-}}
{{- if eq .Values.mode "sidecar" -}}
{{- $_ := set $all "PORT" .Values.envoy.port -}}
{{- $_ := set $all "DOWNSTREAM_URL" (printf "http://127.0.0.1:%d" (int .Values.app.port)) -}}
{{- end -}}
{{- with include "sentinel.policyMap" . -}}
{{- $_ := set $all "POLICY_FILE" (printf "/etc/sentinel/policy/%s" $.Values.policy.key) -}}
{{- end -}}
{{- with include "sentinel.rateLimitMap" . -}}
{{- $_ := set $all "RATELIMIT_CONFIG_DIR" "/etc/sentinel/ratelimit" -}}
{{- end -}}
{{- if not .Values.redis.urlSecret.name -}}
{{- $_ := set $all "REDIS_URL" (include "sentinel.redisUrl" .) -}}
{{- end -}}
{{- if include "sentinel.redisSecret" . -}}
{{- $_ := set $all "REDIS_PASSWORD_FILE" "/etc/sentinel/redis/password" -}}
{{- with .Values.redis.auth.username }}{{ $_ := set $all "REDIS_USERNAME" . }}{{ end -}}
{{- if and .Values.redis.auth.existingSecret .Values.redis.auth.sentinelPasswordKey -}}
{{- $_ := set $all "REDIS_SENTINEL_PASSWORD_FILE" "/etc/sentinel/redis/sentinel-password" -}}
{{- end -}}
{{- end -}}
{{- $set := dict -}}
{{- range $name, $value := $all -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $set $name (include "sentinel.text" $value) }}{{ end -}}
{{- end -}}
{{ toJson $set }}
{{- end }}

{{- define "sentinel.env" -}}
{{- range $name, $value := include "sentinel.variables" . | fromJson }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.redis.urlSecret.name }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ tpl . $ | quote }}, key: {{ $.Values.redis.urlSecret.key | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts of Sentinel. Folders and never single files (subPath): what is mounted so is never updated. */}}
{{- define "sentinel.mounts" -}}
- {name: sentinel-tmp, mountPath: /tmp}
{{- if eq .Values.mode "sidecar" }}
- {name: sentinel-socket, mountPath: {{ include "sentinel.socketFolder" . }}}
{{- end }}
{{- with include "sentinel.policyMap" . }}
- {name: sentinel-policy, mountPath: /etc/sentinel/policy, readOnly: true}
{{- end }}
{{- with include "sentinel.rateLimitMap" . }}
- {name: sentinel-ratelimit, mountPath: /etc/sentinel/ratelimit, readOnly: true}
{{- end }}
{{- if include "sentinel.redisSecret" . }}
- {name: sentinel-redis, mountPath: /etc/sentinel/redis, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sentinel.volumes" -}}
- name: sentinel-tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with include "sentinel.policyMap" . }}
- name: sentinel-policy
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with include "sentinel.rateLimitMap" . }}
- name: sentinel-ratelimit
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with include "sentinel.redisSecret" . }}
- name: sentinel-redis
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    items:
      - {key: {{ ternary $.Values.redis.auth.passwordKey "password" (not (empty $.Values.redis.auth.existingSecret)) | quote }}, path: password}
      {{- if and $.Values.redis.auth.existingSecret $.Values.redis.auth.sentinelPasswordKey }}
      - {key: {{ $.Values.redis.auth.sentinelPasswordKey | quote }}, path: sentinel-password}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}
