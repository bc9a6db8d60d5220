{{- define "landfall.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "landfall.selector" -}}
app.kubernetes.io/name: landfall
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "landfall.labels" -}}
{{ include "landfall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "landfall.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "landfall.userDataSecret" -}}
{{- if .Values.config.existingSecret -}}
{{ .Values.config.existingSecret }}
{{- else if .Values.config.userData -}}
{{- /* Not a pattern of values.schema.json: helm would print the whole text, with its logins. */ -}}
{{- if not (regexMatch "^\\s*#cloud-config\\s*(\n|$)" .Values.config.userData) -}}
{{- fail "config.userData is no user-data: its first line has to be `#cloud-config`" -}}
{{- end -}}
{{ include "landfall.name" . }}-user-data
{{- else -}}
{{- fail "set config.userData or config.existingSecret: the user-data defines where images come from" -}}
{{- end -}}
{{- end -}}
