{{/* What the schema cannot say well: each problem is a line that begins with the value's name. */}}
{{- define "sentinel.problems" -}}
{{- $v := .Values -}}
{{- $sidecar := eq $v.mode "sidecar" -}}
{{- if not (or $v.image.registry $v.global.imageRegistry) }}
image.registry: no image of Sentinel is published; build it in the repository (docker build -t registry.example.com/{{ $v.image.repository }}:{{ .Chart.AppVersion }} .), push it to a registry of yours, and name that here or in global.imageRegistry
{{- end }}
{{- if and $sidecar $v.autoscaling.enabled }}
autoscaling.enabled: in mode sidecar the pods are the app's, which scales by its own measure; set it to false, and replicaCount to null for an autoscaler of your own
{{- end }}
{{- if and (not $sidecar) (gt (int $v.config.workers) 1) }}
config.workers: a Service leads to one port of a pod, so in mode service it must be 1; scale with replicaCount
{{- end }}
{{- if and (gt (int $v.config.workers) 1) (eq (toString $v.redis.url | lower) "memory://") }}
config.workers: workers share no memory, so redis.url cannot be memory://
{{- end }}
{{- if and $sidecar $v.app.enabled (not $v.app.example) (not $v.app.image.repository) }}
app.image.repository: mode sidecar needs the app's image; or set app.example, or app.enabled to false
{{- end }}
{{- if and (not $sidecar) $v.app.example }}
app.example: mode service deploys no app; set mode to sidecar
{{- end }}
{{- if and (not $sidecar) $v.app.image.repository }}
app.image.repository: mode service deploys no app; set mode to sidecar
{{- end }}
{{- if and $sidecar (not $v.app.enabled) }}
{{- range $name := list "podMonitor" "serviceMonitor" }}
{{- if (index $v.metrics $name).enabled }}
metrics.{{ $name }}.enabled: app.enabled is false, so the pods are another chart's, which has to select them
{{- end }}
{{- end }}
{{- if $v.podDisruptionBudget.enabled }}
podDisruptionBudget.enabled: app.enabled is false, so the pods are another chart's, which has to select them
{{- end }}
{{- end }}
{{- if and $sidecar $v.app.enabled $v.app.image.repository (not $v.app.example) (not $v.app.image.tag) (not $v.app.image.digest) }}
app.image.tag: name a tag, or app.image.digest
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
autoscaling.minReplicas: {{ $v.autoscaling.minReplicas }} is more than autoscaling.maxReplicas ({{ $v.autoscaling.maxReplicas }})
{{- end }}
{{- if and $v.autoscaling.enabled (not $v.autoscaling.targetCPUUtilizationPercentage) (not $v.autoscaling.targetMemoryUtilizationPercentage) (not $v.autoscaling.metrics) }}
autoscaling.metrics: without a target for CPU or memory it needs at least one
{{- end }}
{{- if and (not (kindIs "invalid" $v.podDisruptionBudget.minAvailable)) (not (kindIs "invalid" $v.podDisruptionBudget.maxUnavailable)) }}
podDisruptionBudget.minAvailable: set it or maxUnavailable, not both
{{- end }}
{{- include "sentinel.clusterProblems" . }}
{{- $urls := list -}}
{{- if $v.redis.url }}{{ $urls = append $urls "redis.url" }}{{ end -}}
{{- if $v.redis.urlSecret.name }}{{ $urls = append $urls "redis.urlSecret.name" }}{{ end -}}
{{- if $v.redis.bundled.enabled }}{{ $urls = append $urls "redis.bundled.enabled" }}{{ end -}}
{{- if gt (len $urls) 1 }}
{{ first $urls }}: set only one of {{ join " and " $urls }}
{{- end }}
{{- include "sentinel.secretProblems" . }}
{{- if and $v.redis.auth.password $v.redis.auth.existingSecret }}
redis.auth.password: redis.auth.existingSecret is set, too; set one of them
{{- end }}
{{- if and $v.redis.auth.username (not (include "sentinel.redisSecret" .)) }}
redis.auth.username: it is the user of a password; set redis.auth.existingSecret
{{- end }}
{{- if and $v.redis.auth.username $v.redis.bundled.enabled }}
redis.auth.username: the bundled Redis has only its default user
{{- end }}
{{- if and $v.redis.auth.sentinelPasswordKey (not $v.redis.auth.existingSecret) }}
redis.auth.sentinelPasswordKey: it is a key of redis.auth.existingSecret, which is not set
{{- end }}
{{- if and $v.policy.content $v.policy.existingConfigMap }}
policy.content: policy.existingConfigMap is set, too; set one of them
{{- end }}
{{- if and $v.rateLimit.files $v.rateLimit.existingConfigMap }}
rateLimit.files: rateLimit.existingConfigMap is set, too; set one of them
{{- end }}
{{- if and (hasKey (default dict $v.rateLimit.files) $v.policy.key) $v.policy.content (not $v.rateLimit.existingConfigMap) }}
rateLimit.files.{{ $v.policy.key }}: the policy file has this name, too (policy.key); give one of them another
{{- end }}
{{- include "sentinel.fileProblems" . }}
{{- if not $v.metrics.enabled }}
{{- range $name := list "serviceMonitor" "podMonitor" }}
{{- if (index $v.metrics $name).enabled }}
metrics.{{ $name }}.enabled: metrics.enabled is false, so there is nothing to scrape
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.metrics.serviceMonitor.enabled (not $v.metrics.service.enabled) }}
metrics.serviceMonitor.enabled: it needs metrics.service.enabled
{{- end }}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled }}
metrics.podMonitor.enabled: metrics.serviceMonitor.enabled is set, too; every pod would be scraped twice
{{- end }}
{{- if and $v.metrics.prometheusRule.enabled (not (.Files.Get "files/alerts.yaml")) }}
metrics.prometheusRule.enabled: this copy of the chart has no files/alerts.yaml
{{- end }}
{{- $alerts := list }}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups }}{{ range .rules }}{{ with .alert }}{{ $alerts = append $alerts . }}{{ end }}{{ end }}{{ end }}
{{- range $name := $v.metrics.prometheusRule.disabled }}
{{- if not (has $name $alerts) }}
metrics.prometheusRule.disabled: there is no alert {{ $name }}
{{- end }}
{{- end }}
{{- range $name, $_ := $v.metrics.prometheusRule.overrides }}
{{- if not (has $name $alerts) }}
metrics.prometheusRule.overrides.{{ $name }}: there is no such alert
{{- end }}
{{- end }}
{{- if and $v.metrics.dashboard.enabled (not (.Files.Get "files/dashboard.json")) }}
metrics.dashboard.enabled: this copy of the chart has no files/dashboard.json
{{- end }}
{{- $ports := ternary (list "envoy.port" "envoy.adminPort" "app.port" "ports.admin") (list "ports.grpc" "ports.admin") $sidecar -}}
{{- $numbers := dict "envoy.port" $v.envoy.port "envoy.adminPort" $v.envoy.adminPort "app.port" $v.app.port "ports.admin" $v.ports.admin "ports.grpc" $v.ports.grpc -}}
{{- if include "sentinel.envoyMetrics" . -}}
{{- $ports = append $ports "metrics.envoy.port" -}}
{{- $_ := set $numbers "metrics.envoy.port" $v.metrics.envoy.port -}}
{{- end -}}
{{- if ne (default "" $v.config.debugAddress) "off" -}}
{{- $ports = append $ports "config.debugAddress" -}}
{{- $_ := set $numbers "config.debugAddress" (regexFind "[0-9]+$" (default "127.0.0.1:50052" $v.config.debugAddress) | int) -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $name := $ports }}
{{- $number := toJson (get $numbers $name) }}
{{- with get $taken $number }}
{{ $name }}: {{ . }} is the port {{ $number }}, too
{{- end }}
{{- $_ := set $taken $number $name }}
{{- end }}
{{- range $value, $list := dict "extraEnv" $v.extraEnv "app.env" $v.app.env }}
{{- $names := list }}
{{- range $list }}
{{- if has .name $names }}
{{ $value }}: {{ .name }} stands there twice, which server-side apply refuses
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
{{- $own := include "sentinel.variables" . | fromJson -}}
{{- range $v.extraEnv }}
{{- if or (hasKey $own .name) (has .name (list "REDIS_URL" "WORKERS")) }}
extraEnv: {{ .name }} is set by the chart from its own value
{{- end }}
{{- end }}
{{- end }}

{{/* What a cluster would refuse, or what would keep it from doing its work. */}}
{{- define "sentinel.clusterProblems" -}}
{{- $v := .Values -}}
{{- $sidecar := eq $v.mode "sidecar" -}}
{{- $name := include "sentinel.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
fullnameOverride: {{ $name | quote }}, made of the release's name, cannot be a Service's: small letters, digits and - that begin with a letter; set it
{{- end }}
{{- $rolling := default dict $v.updateStrategy.rollingUpdate }}
{{- if and (ne $v.updateStrategy.type "Recreate") (has (toString $rolling.maxSurge) (list "0" "0%")) (has (toString $rolling.maxUnavailable) (list "0" "0%")) }}
updateStrategy.rollingUpdate: maxSurge and maxUnavailable are both 0, so no pod could be replaced
{{- end }}
{{- $pods := ternary $v.autoscaling.minReplicas $v.replicaCount $v.autoscaling.enabled }}
{{- $stay := $v.podDisruptionBudget.minAvailable | toString }}
{{- $share := trimSuffix "%" $stay | int }}
{{- /* Kubernetes rounds a share up. */}}
{{- $least := ternary (div (add (mul $share (int $pods)) 99) 100) $share (hasSuffix "%" $stay) }}
{{- if and $v.podDisruptionBudget.enabled (or (eq $stay "100%") (and $pods (regexMatch "^[0-9]+%?$" $stay) (ge (int $least) (int $pods)))) }}
podDisruptionBudget.minAvailable: {{ $stay }} of {{ with $pods }}{{ . }} pods{{ else }}all pods{{ end }} lets none go, so no node could be drained; lower it, or set maxUnavailable
{{- end }}
{{- if and $v.podDisruptionBudget.enabled (has ($v.podDisruptionBudget.maxUnavailable | toString) (list "0" "0%" "00%")) }}
podDisruptionBudget.maxUnavailable: {{ $v.podDisruptionBudget.maxUnavailable }} lets no pod go, so no node could be drained; raise it
{{- end }}
{{- $grace := int $v.terminationGracePeriodSeconds }}
{{- $app := $v.app.preStopSeconds }}
{{- $ends := default dict $v.app.lifecycle }}
{{- with $ends.preStop }}{{ $app = dig "sleep" "seconds" 0 . }}{{ end }}
{{- $waits := dict "lifecycle.preStop" (dig "preStop" "sleep" "seconds" 0 (default dict $v.lifecycle)) }}
{{- if and $sidecar $v.app.enabled }}
{{- $_ := set $waits (ternary "app.lifecycle.preStop" "app.preStopSeconds" (hasKey $ends "preStop")) $app }}
{{- end }}
{{- if and $sidecar $v.envoy.existingConfigMap }}
{{- range $value, $set := dict "envoy.unprotectedPaths" $v.envoy.unprotectedPaths "envoy.trustedHops" $v.envoy.trustedHops "app.protocol" (eq $v.app.protocol "h2c") }}
{{- if $set }}
{{ $value }}: envoy.existingConfigMap is set, so it has to say this
{{- end }}
{{- end }}
{{- end }}
{{- range $value, $seconds := $waits }}
{{- if and $seconds (gt (add $seconds 10) $grace) }}
{{ $value }}: {{ $seconds }} s and Sentinel's drain of 10 s are more than terminationGracePeriodSeconds ({{ $grace }})
{{- end }}
{{- end }}
{{- end }}

{{- define "sentinel.validate" -}}
{{- with include "sentinel.problems" . | trim -}}
{{- fail (printf "\n%s" .) -}}
{{- /* `helm lint` goes on after fail and says nothing; of a template that is not there it says the name. An image is not
needed to lint. */ -}}
{{- $problems := list -}}
{{- range splitList "\n" . -}}
{{- if not (or (empty .) (hasPrefix "image.registry:" .)) }}{{ $problems = append $problems . }}{{ end -}}
{{- end -}}
{{- with $problems }}{{ include (join "; " . | replace "\"" "'") $ }}{{ end -}}
{{- end -}}
{{- end }}
