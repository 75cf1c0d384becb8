{{/* Every object has the release's name: one release is one agent on each node. */}}
{{- define "proxy-agent.selector" -}}
app.kubernetes.io/name: proxy-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "proxy-agent.labels" -}}
{{ include "proxy-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* metadata of an object in the release's namespace */}}
{{- define "proxy-agent.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "proxy-agent.labels" . | nindent 2 }}
{{- end }}

{{/* Arguments of the container */}}
{{- define "proxy-agent.args" -}}
- run
- --source=kubernetes
- --admin-address={{ eq .Values.ipFamily "IPv6" | ternary "[$(POD_IP)]" "$(POD_IP)" }}:15020
- --capture={{ .Values.capture }}
- --unknown-pods={{ .Values.unknownPods }}
- --acceleration={{ .Values.acceleration }}
- --drain-timeout={{ .Values.drainTimeoutSeconds }}s
- --log-format={{ .Values.logFormat }}
{{- with .Values.workers }}
- --workers={{ . }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}
