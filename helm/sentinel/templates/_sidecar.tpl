{{/* Mode sidecar: Sentinel and Envoy as native sidecars. */}}

{{- define "sentinel.envoyMap" -}}
{{- if .Values.envoy.existingConfigMap -}}
{{ tpl .Values.envoy.existingConfigMap . }}
{{- else -}}
{{ include "sentinel.fullname" . }}-envoy
{{- end -}}
{{- end }}

{{/* Whether Envoy shows its metrics on a port of the pod. A file of one's own need not have that. */}}
{{- define "sentinel.envoyMetrics" -}}
{{- if and (eq .Values.mode "sidecar") .Values.metrics.enabled .Values.metrics.envoy.enabled (not .Values.envoy.existingConfigMap) -}}
true
{{- end -}}
{{- end }}

{{- define "sentinel.envoyContainer" -}}
name: envoy
image: {{ include "sentinel.image" (list . .Values.envoy.image "distroless-v1.40.0") | quote }}
imagePullPolicy: {{ .Values.envoy.image.pullPolicy }}
command: [/usr/local/bin/envoy]
args:
  - -c
  - /etc/envoy/envoy.yaml
  - --concurrency
  - {{ .Values.envoy.concurrency | quote }}
  - --log-level
  - {{ .Values.envoy.logLevel | quote }}
  # Its shared memory would need a place to write; a pod replaces Envoy instead.
  - --disable-hot-restart
  {{- with .Values.envoy.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - {name: http, containerPort: {{ .Values.envoy.port }}, protocol: TCP}
  {{- if include "sentinel.envoyMetrics" . }}
  - {name: envoy-metrics, containerPort: {{ .Values.metrics.envoy.port }}, protocol: TCP}
  {{- end }}
# Its admin interface is on loopback, where the kubelet does not come; the listener opens when all is ready.
startupProbe:
  tcpSocket: {port: {{ .Values.envoy.port }}}
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  tcpSocket: {port: {{ .Values.envoy.port }}}
  periodSeconds: 5
{{- with .Values.envoy.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .Values.envoy.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - {name: sentinel-socket, mountPath: {{ include "sentinel.socketFolder" . }}}
  - {name: sentinel-envoy, mountPath: /etc/envoy, readOnly: true}
  {{- with .Values.envoy.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Envoy reads its file once, so pods are replaced when it changes. Policy and limits are read live. */}}
{{- define "sentinel.sidecar.annotations" -}}
{{- if not .Values.envoy.existingConfigMap }}
checksum/envoy: {{ include "sentinel.envoyConfig" . | sha256sum }}
{{- end }}
{{- end }}

{{/*
What a pod needs to be protected, as a mapping of labels and annotations, and of a pod's fields: initContainers, volumes
(extraVolumes among them), securityContext, imagePullSecrets, enableServiceLinks, terminationGracePeriodSeconds. It is for
charts that have Sentinel as a subchart (mode: sidecar, app.enabled: false). They call it with the subchart's context:

  {{- $sidecar := include "sentinel.sidecar" .Subcharts.sentinel | fromYaml }}

The order matters. Sidecars start in this order, each when the one before it has started, and end in the reverse one
after the app: so Envoy never runs without Sentinel.
*/}}
{{- define "sentinel.sidecar" -}}
labels:
  {{- toYaml (merge (dict "sentinel-sidecar" (include "sentinel.fullname" .)) (default dict .Values.podLabels)) | nindent 2 }}
annotations:
  {{- toYaml (merge (include "sentinel.sidecar.annotations" . | fromYaml) (default dict .Values.podAnnotations)) | nindent 2 }}
initContainers:
  - restartPolicy: Always
    {{- include "sentinel.container" . | nindent 4 }}
  - restartPolicy: Always
    {{- include "sentinel.envoyContainer" . | nindent 4 }}
volumes:
  - name: sentinel-socket
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
  - name: sentinel-envoy
    configMap: {name: {{ include "sentinel.envoyMap" . | quote }}}
  {{- include "sentinel.volumes" . | nindent 2 }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{ include "sentinel.pullSecrets" . | default "imagePullSecrets: []" }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- end }}
