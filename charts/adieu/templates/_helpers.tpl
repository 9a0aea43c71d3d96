{{- define "adieu.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "adieu.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "adieu.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "adieu.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "adieu.selectorLabels" -}}
app.kubernetes.io/name: {{ include "adieu.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "adieu.labels" -}}
{{- include "adieu.ownLabels" . | fromYaml | mergeOverwrite (deepCopy .Values.commonLabels) | toYaml -}}
{{- end -}}

{{- define "adieu.ownLabels" -}}
{{ include "adieu.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /*
The labels of an object of .root, with .more. They override commonLabels, and the selector labels override them.
*/ -}}
{{- define "adieu.labelsAnd" -}}
{{- $selector := include "adieu.selectorLabels" .root | fromYaml }}
{{- mergeOverwrite (include "adieu.labels" .root | fromYaml) .more $selector | toYaml -}}
{{- end -}}

{{- define "adieu.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "adieu.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /*
The username of the operator in requests.
*/ -}}
{{- define "adieu.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "adieu.serviceAccountName" . }}
{{- end -}}

{{- /*
A match condition: requests of any client except the operator.
*/ -}}
{{- define "adieu.byOthers" -}}
request.userInfo.username != "{{ include "adieu.username" . }}"
{{- end -}}

{{- /*
The Secret of the webhook's certificate. The operator and cert-manager use different names: otherwise Helm would delete
the Secret that cert-manager filled in when you switch to it, and would reject a Secret that it does not own when you
switch back.
*/ -}}
{{- define "adieu.certificateSecret" -}}
{{- include "adieu.fullname" . }}-{{ ternary "tls" "certificates" .Values.certificates.certManager.enabled }}
{{- end -}}

{{- /*
The CA that cert-manager creates for the webhook if there is no issuerRef: the name of its Issuer, Certificate and
Secret.
*/ -}}
{{- define "adieu.ca" -}}
{{- include "adieu.fullname" . }}-ca
{{- end -}}

{{- /*
The part of a repository before its first slash is a registry if it has a dot or a port, or is localhost.
*/ -}}
{{- define "adieu.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" . (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") -}}
{{- end -}}
{{- $image := printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- with .Values.image.digest -}}
{{- $image = printf "%s@%s" $image . -}}
{{- end -}}
{{- $image -}}
{{- end -}}

{{- /*
The fields of every pod of the chart: scheduling, image pull secrets, and the security context.
*/ -}}
{{- define "adieu.pod" -}}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- $secrets := list }}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.imagePullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with uniq $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /*
The fields of every container of the chart.
*/ -}}
{{- define "adieu.container" -}}
image: {{ include "adieu.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}
