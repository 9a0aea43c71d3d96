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
The labels of an object of .root with .more, which count before the common ones and after what objects are
found by.
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
What the API server calls the operator.
*/ -}}
{{- define "adieu.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "adieu.serviceAccountName" . }}
{{- end -}}

{{- /*
A match condition: requests of others.
*/ -}}
{{- define "adieu.byOthers" -}}
request.userInfo.username != "{{ include "adieu.username" . }}"
{{- end -}}

{{- /*
The Secret of the webhook's certificate. Under one name, whoever turns to cert-manager would have Helm delete what
that has filled in, and whoever turns from it would have Helm refuse what isn't its own.
*/ -}}
{{- define "adieu.certificateSecret" -}}
{{- include "adieu.fullname" . }}-{{ ternary "tls" "certificates" .Values.certificates.certManager.enabled }}
{{- end -}}

{{- /*
The authority that cert-manager keeps for the webhook, where no other issuer signs: issuer, certificate and Secret.
*/ -}}
{{- define "adieu.authority" -}}
{{- include "adieu.fullname" . }}-authority
{{- end -}}

{{- define "adieu.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- with .Values.image.digest -}}
{{- $image = printf "%s@%s" $image . -}}
{{- end -}}
{{- $image -}}
{{- end -}}

{{- /*
What every pod here has: which nodes it runs on, where its image comes from, and what the restricted Pod
Security Standard asks for.
*/ -}}
{{- define "adieu.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
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
And every container.
*/ -}}
{{- define "adieu.container" -}}
image: {{ include "adieu.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
