//! Objects whose kind is known only at run time, like [`DynamicObject`](kube::core::DynamicObject).

/// Implements [`kube::Resource`] for a type with a field `metadata`, of which `$meta_mut` is the mutable reference.
macro_rules! dynamic_resource {
    ($type:ty, $self:ident, $meta_mut:expr) => {
        impl kube::Resource for $type {
            type DynamicType = kube::core::ApiResource;
            type Scope = kube::core::DynamicResourceScope;

            fn group(resource: &Self::DynamicType) -> std::borrow::Cow<'_, str> {
                resource.group.as_str().into()
            }

            fn version(resource: &Self::DynamicType) -> std::borrow::Cow<'_, str> {
                resource.version.as_str().into()
            }

            fn kind(resource: &Self::DynamicType) -> std::borrow::Cow<'_, str> {
                resource.kind.as_str().into()
            }

            fn plural(resource: &Self::DynamicType) -> std::borrow::Cow<'_, str> {
                resource.plural.as_str().into()
            }

            fn meta(&$self) -> &ObjectMeta {
                &$self.metadata
            }

            fn meta_mut(&mut $self) -> &mut ObjectMeta {
                $meta_mut
            }
        }
    };
}

pub(crate) use dynamic_resource;
