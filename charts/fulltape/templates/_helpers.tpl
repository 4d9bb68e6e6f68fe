{{/* The name of all of the operator's objects. */}}
{{- define "fulltape.name" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "fulltape.serviceAccount" -}}
{{- default (include "fulltape.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "fulltape.selector" -}}
app.kubernetes.io/name: fulltape-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fulltape.labels" -}}
{{ include "fulltape.selector" . }}
app.kubernetes.io/component: operator
{{ include "fulltape.commonLabels" . }}
{{- end -}}

{{/* The labels that all objects of the chart have. */}}
{{- define "fulltape.commonLabels" -}}
app.kubernetes.io/part-of: fulltape
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* An image by its digest where there is one, else by its tag. Takes a list: the image's values, the chart's version. */}}
{{- define "fulltape.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- end -}}
{{- end -}}

{{/* The platform file: what the values say, with the chart's images where they say none. */}}
{{- define "fulltape.platform" -}}
{{- $images := dict
  "services" (include "fulltape.image" (list .Values.image .Chart.AppVersion))
  "spark" (include "fulltape.image" (list .Values.sparkImage .Chart.AppVersion)) -}}
{{- toYaml (mergeOverwrite (dict "images" $images) (deepCopy .Values.platform)) -}}
{{- end -}}

{{/* The restricted Pod Security Standard. */}}
{{- define "fulltape.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "fulltape.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the operator does in the namespaces that it serves. */}}
{{- define "fulltape.rules" -}}
# The feeds, and what is said of them.
- apiGroups: [fulltape.dev]
  resources: [cryptofeeds]
  verbs: [list, watch, patch]
- apiGroups: [fulltape.dev]
  resources: [cryptofeeds/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# What feeds are made of. Server-side apply asks for create and patch; a name that is taken is found by get. RBAC can't
# tell Secrets by their labels: those that are read and copied are Strimzi's, and only their names are read of others.
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, secrets, serviceaccounts, services]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings, roles]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [kafka.strimzi.io]
  resources: [kafkatopics, kafkausers]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [sparkoperator.k8s.io]
  resources: [sparkapplications]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [create, delete, get, list, patch, watch]
# What is only looked at: how pods do and what they measure, whether a Kafka cluster exists, why pods are not made.
- apiGroups: [kafka.strimzi.io]
  resources: [kafkas]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# The operator gives Spark's drivers a Role to make their executors with; nobody can give what he does not have.
- apiGroups: [""]
  resources: [pods]
  verbs: [create, delete, deletecollection, get, list, patch, watch]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, services]
  verbs: [deletecollection]
{{- end -}}
