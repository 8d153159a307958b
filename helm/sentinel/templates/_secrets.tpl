{{/*
Secrets that stand in a value which the pod shows in plain text: each problem is a line that begins with the value's name.
No message shows the value. What a URL may have is listed, and all else refused: so a login that is escaped (%40, pass%77ord)
or in capitals does not get past.
*/}}

{{/* The options of REDIS_URL that hold no secret. tests/chart compares them with those that Sentinel knows. */}}
{{- define "sentinel.redisOptions" -}}
client_name db health_check_interval max_connections protocol socket_connect_timeout socket_keepalive socket_timeout
ssl_ca_certs ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers ssl_keyfile ssl_min_version
{{- end }}

{{- define "sentinel.secretProblems" -}}
{{- $v := .Values -}}
{{- $url := default "" $v.redis.url -}}
{{- $host := "([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?" -}}
{{- $parts := splitn "?" 2 $url -}}
{{- $options := include "sentinel.redisOptions" . | replace "\n" " " | splitList " " -}}
{{- $unknown := false -}}
{{- range compact (splitList "&" (default "" $parts._1)) -}}
{{- if not (has (splitList "=" . | first) $options) }}{{ $unknown = true }}{{ end -}}
{{- end -}}
{{- if or (contains "@" $url) (contains "%" $parts._0) (contains "#" $url) }}
redis.url: a user or password in it could be read in the pod; use redis.auth.existingSecret, or redis.urlSecret for the whole URL
{{- else if not (regexMatch "(?i)^((redis|rediss)([+](sentinel|cluster))?://.+|memory://)?$" $url) }}
redis.url: allowed are redis://, rediss://, redis+sentinel://, redis+cluster://, rediss+...:// and memory://
{{- else if not (regexMatch (printf "^([^:]*://(%s(,%s)*(/[A-Za-z0-9._-]*(/[0-9]*)?)?)?)?$" $host $host) $parts._0) }}
redis.url: behind :// stand hosts with ports, and a master's name or a number; for a password use redis.auth.existingSecret
{{- else if $unknown }}
redis.url: of options only {{ join ", " $options }} may stand in it; for a password use redis.auth.existingSecret, or redis.urlSecret for the whole URL
{{- end }}
{{- if and $v.config.tracing.enabled (not $v.config.tracing.otlpEndpoint) }}
config.tracing.otlpEndpoint: tracing is enabled, so it is needed
{{- else if not (regexMatch "^((https?|grpcs?)://[^@%?# ]+)?$" (default "" $v.config.tracing.otlpEndpoint)) }}
config.tracing.otlpEndpoint: allowed are http://, https://, grpc:// and grpcs:// without user, password and query; for a token take extraEnv's OTEL_EXPORTER_OTLP_HEADERS from a Secret
{{- end }}
{{- range $v.extraEnv }}
{{- $inline := and (hasKey . "value") .value -}}
{{- if and $inline (regexMatch "(?i)^OTEL_EXPORTER_OTLP_(.+_)?HEADERS$" .name) }}
extraEnv: {{ .name }} may hold a token, which could be read in the pod; give it with valueFrom.secretKeyRef
{{- else if and $inline (regexMatch "(?i)://[^/?#]*(@|%40)" (toString .value)) }}
extraEnv: {{ .name }} has a login in its URL, which could be read in the pod; give it with valueFrom.secretKeyRef
{{- end }}
{{- end }}
{{- end }}
