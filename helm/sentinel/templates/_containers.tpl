{{/* Sentinel's container, without a restartPolicy. */}}
{{- define "sentinel.container" -}}
name: sentinel
{{ include "sentinel.ownImage" . }}
args: [serve]
env:
  {{- include "sentinel.env" . | trim | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or (eq .Values.mode "service") .Values.metrics.enabled }}
ports:
  {{- if eq .Values.mode "service" }}
  - {name: grpc, containerPort: {{ .Values.ports.grpc }}, protocol: TCP}
  {{- end }}
  {{- if .Values.metrics.enabled }}
  - {name: admin, containerPort: {{ .Values.ports.admin }}, protocol: TCP}
  {{- end }}
{{- end }}
{{- range $kind, $probe := omit .Values.probes "handler" }}
{{- if $probe.enabled }}
{{ $kind }}Probe:
  {{- include "sentinel.probe" (list $ $kind) | nindent 2 }}
  periodSeconds: {{ $probe.periodSeconds }}
  timeoutSeconds: {{ $probe.timeoutSeconds }}
  failureThreshold: {{ $probe.failureThreshold }}
{{- end }}
{{- end }}
{{- with .Values.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- include "sentinel.resources" . | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  {{- include "sentinel.mounts" . | trim | nindent 2 }}
{{- end }}

{{/*
How a probe asks. Kubernetes' gRPC probes reach no Unix socket: there the startup probe runs our own command, so that
Envoy starts only when the socket answers; the others ask the admin port where it is open, which costs no process.
With probes.handler `exec` all of them run our command, which asks from within.
*/}}
{{- define "sentinel.probe" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $exec := eq $root.Values.probes.handler "exec" -}}
{{- if and (eq $root.Values.mode "service") (not $exec) -}}
grpc: {port: {{ $root.Values.ports.grpc }}, service: {{ ternary "\"\"" "liveness" (eq $kind "readiness") }}}
{{- else if and $root.Values.metrics.enabled (ne $kind "startup") (not $exec) -}}
httpGet: {port: {{ $root.Values.ports.admin }}, path: {{ ternary "/readyz" "/healthz" (eq $kind "readiness") }}}
{{- else -}}
exec:
  command:
    - sentinel-ext
    - healthcheck
    {{- /* Of several workers it finds the sockets by the container's variables. */}}
    {{- if eq (int $root.Values.config.workers) 1 }}
    - --address
    - {{ include "sentinel.grpcAddress" $root }}
    {{- end }}
    {{- if ne $kind "readiness" }}
    - --service
    - liveness
    {{- end }}
{{- end -}}
{{- end }}

{{/* Resources of Sentinel: a request for CPU that nobody has set goes by the mode, and never above a limit. */}}
{{- define "sentinel.resources" -}}
{{- $given := deepCopy (default dict .Values.resources) -}}
{{- if not (or (dig "requests" "cpu" "" $given) (dig "limits" "cpu" "" $given)) -}}
{{- $cpu := ternary "250m" "100m" (eq .Values.mode "service") -}}
{{- $given = merge (dict "requests" (dict "cpu" $cpu)) $given -}}
{{- end -}}
{{ toYaml $given }}
{{- end }}

{{/* On which nodes the pods of hooks may run: on those of all the others. */}}
{{- define "sentinel.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* What pods of both modes have in common, behind `spec:`. */}}
{{- define "sentinel.podSpec" -}}
{{ include "sentinel.pullSecrets" . }}
serviceAccountName: {{ include "sentinel.serviceAccountName" . | quote }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
# Kubernetes would set REDIS_PORT=tcp://... and the like for every Service of the namespace.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "dnsConfig" "hostAliases" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := include "sentinel.selector" (list $ "sentinel") | fromYaml }}
  {{- range . }}
  {{- $own := ternary (dict) (dict "labelSelector" (dict "matchLabels" $selector)) (hasKey . "labelSelector") }}
  - {{ toYaml (merge (dict) . $own) | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "sentinel.podMetadata" -}}
metadata:
  labels:
    {{- toYaml (merge (include "sentinel.podLabels" (list . "sentinel") | fromYaml) (default dict .Values.podLabels)) | nindent 4 }}
  {{- $annotations := default dict .Values.podAnnotations }}
  {{- if eq .Values.mode "sidecar" }}
  {{- $annotations = merge (include "sentinel.sidecar.annotations" . | fromYaml) (dict "kubectl.kubernetes.io/default-container" "app") $annotations }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
